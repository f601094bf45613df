"""`python -m worldblocks.parity`."""

from worldblocks.parity.command import main

raise SystemExit(main())
