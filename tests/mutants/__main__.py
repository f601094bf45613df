"""`python tests/mutants [NAME …]`: run the checks on all mutants, or on some; write the table."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from mutants import table

    found = table.run(sys.argv[1:])
    table.write(found)
    missed = [name for name, names in found.items() if not names]
    print(f"{len(found) - len(missed)} of {len(found)} caught: {table.PAGE}")
    sys.exit(bool(missed))
