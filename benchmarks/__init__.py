"""Speed and memory of worldblocks and other libraries, in one run and on the same work.

    python -m benchmarks                         every subject, the peers of the package index
    python -m benchmarks --only returns,replay   some subjects
    python -m benchmarks --page                  the pages from the last figures
    python -m benchmarks compare COMMIT          is the working tree slower than that commit?

`benchmarks/README.md` explains the figures and how to add a peer or a subject.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
