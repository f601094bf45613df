"""`python -m worldblocks.run.compare`."""

from worldblocks.run.compare.command import main

raise SystemExit(main())
