"""`python -m worldblocks.evaluate.compare`."""

from worldblocks.evaluate.compare.command import main

raise SystemExit(main())
