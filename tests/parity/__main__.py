"""`python tests/parity`: compare every block with recorded outputs of the official code."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    from parity.command import main

    sys.exit(main())
