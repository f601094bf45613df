"""`python -m worldblocks.run.export`."""

from worldblocks.run.export.command import main

raise SystemExit(main())
