"""`python tests/mutation`: mutate the numeric core, run its tests, write the page.

    python tests/mutation                       every mutant (hours)
    python tests/mutation returns --sample 100  a hundred of one part, drawn by --seed
    python tests/mutation --seconds 600         as many as fit; the next call goes on

    python tests/mutation --page                write the page from what is known

What is known is kept in `.mutation/`; it is not run again while source and tests are the same.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from mutation import command

    sys.exit(command.main(sys.argv[1:]))
