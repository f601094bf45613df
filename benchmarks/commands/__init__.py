"""Further measurements, each a command: `python -m benchmarks NAME`.

A report (`report.py`) has options, figures that go to `benchmarks/NAME.json`, and a page made of
them. `compare` is no report: it judges two commits.
"""
