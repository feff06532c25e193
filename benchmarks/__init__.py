"""One script per claim; each measures this library and a peer in the same run.

Run them as `python -m benchmarks.NAME`.
"""
