"""Benchmarks: `python -m pytest bench/ --benchmark-only`. See docs/benchmarks.md."""
