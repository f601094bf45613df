"""`python -m benchmarks.learning`."""

from benchmarks.learning.command import main

raise SystemExit(main())
