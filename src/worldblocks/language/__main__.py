"""`python -m worldblocks.language`."""

from worldblocks.language.command import main

raise SystemExit(main())
