"""Learning curves: a queue of runs, what is kept of each, and the figures and tables of docs.

    python -m benchmarks.learning                    the next unfinished entry, its seeds one by one
    python -m benchmarks.learning --jobs 2           two seeds in parallel
    python -m benchmarks.learning --only NAME …      these entries
    python -m benchmarks.learning --list             what is done and what is not
    python -m benchmarks.learning --redraw           only figures and tables

Ctrl-C or SIGTERM lets each run save; the same command goes on from there. A run lies in
`logs/results`, which git ignores. docs/results/data keeps its scores and a curve of some 200
points.
"""

# Whose versions stand with a result.
PACKAGES = ("worldblocks", "torch", "numpy", "gymnasium", "dm-control", "mujoco", "ale-py")
