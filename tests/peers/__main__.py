"""`python tests/peers`: run the checks on blocks of other libraries, print what they find.

It needs torchrl (the extra `bench`) and the extra `testing`. With `--page` it writes the tables of
docs/peers.md too.
"""

import argparse
import logging
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the tables of docs/peers.md")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    from peers import table

    text = table.tables()
    print(text)
    if chosen.page:
        table.write(text)
