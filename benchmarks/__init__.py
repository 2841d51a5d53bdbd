"""What a training step, a grid and the harness around them cost: `make bench`, or `python -m benchmarks --help`.

The peers run from their own packages in environments of their own; the project never depends on them.
"""
