"""Learning curves: a queue of runs, their results, and the figures and tables drawn from them.

    python -m benchmarks.learning                    the next unfinished entry, its seeds one by one
    python -m benchmarks.learning --jobs 2           two seeds in parallel
    python -m benchmarks.learning --only NAME …      these entries
    python -m benchmarks.learning --list             finished and unfinished entries
    python -m benchmarks.learning --redraw           only figures and tables

Ctrl-C or SIGTERM lets each run save; the same command resumes. Runs are in `logs/results`, which
git ignores. docs/results/data keeps their scores and curves of about 200 points.
"""

# The versions that are stored with a result.
PACKAGES = ("worldblocks", "torch", "numpy", "gymnasium", "dm-control", "mujoco", "ale-py")
