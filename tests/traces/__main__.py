"""`python tests/traces`: compare the runs of all recipes, or of some, with what is recorded.

`--record` records them anew; `--base COMMIT` compares with what a commit does on this machine.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).parents[1]
    # This checkout's own, whichever worldblocks is installed.
    sys.path[:0] = map(str, (tests, tests.parent / "src", tests.parent / "recipes"))
    from traces.command import main

    sys.exit(main())
