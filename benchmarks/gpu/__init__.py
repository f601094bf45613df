"""The first fifteen minutes on a GPU: what must hold there, how fast it is, and one run.

python -m benchmarks.gpu bundle     packages that the machine lacks, in one folder
python -m benchmarks.gpu checks     does it compute the same there, and how fast
python -m benchmarks.gpu run        walker_walk from its numbers beside the published curve
"""
