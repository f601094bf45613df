"""Speed and memory of worldblocks beside other libraries, in one run and on the same work.

    python -m benchmarks                        every group, the peers of the package index
    python -m benchmarks --only returns,replay  some groups
    python -m benchmarks --page                 the documentation page from the last figures

Every contestant is a process of its own, and the processes take turns, so that what else the
machine does falls on all of them alike. `benchmarks/README.md` says how to read the figures and how
to add a contestant, a group or a command.
"""
