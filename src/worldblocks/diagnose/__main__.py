"""`python -m worldblocks.diagnose`."""

from worldblocks.diagnose.command import main

raise SystemExit(main())
