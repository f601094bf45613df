"""`python -m worldblocks.run.curve`."""

from worldblocks.run.curve.command import main

raise SystemExit(main())
