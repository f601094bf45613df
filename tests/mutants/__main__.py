"""`python -m tests.mutants`: run every check on every mutant, write the table."""

import sys

from . import table

if __name__ == "__main__":
    found = table.run()
    table.write(found)
    missed = [name for name, names in found.items() if not names]
    print(f"{len(found) - len(missed)} of {len(found)} caught: {table.PAGE}")
    sys.exit(bool(missed))
