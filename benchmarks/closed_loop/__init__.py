"""The official DreamerV3 (JAX) and ours, learning in closed loop on the same environments.

    python -m benchmarks.closed_loop cartpole --official PATH --python PYTHON_WITH_JAX \
        --seeds 0 1 2 --steps 12000 --out logs/closed_loop
    python -m benchmarks.closed_loop cartpole --out logs/closed_loop --compare

The first command runs what is missing, one process at a time, and then compares; an interrupted
one goes on with the first unfinished seed. PATH is a checkout of github.com/danijar/dreamerv3,
which is imported in place. docs/learning.md has the results and what cannot be made equal.
"""
