"""`python tests/traces`: compare runs of all recipes, or of some, with recorded ones.

`--record` records them again; `--base COMMIT` compares with runs of a commit on this machine.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).parents[1]
    # The code of this checkout, whichever worldblocks is installed.
    sys.path[:0] = map(str, (tests, tests.parent / "src", tests.parent / "recipes"))
    from traces.command import main

    sys.exit(main())
