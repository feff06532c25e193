"""One script a claim; each measures us and the peer in the same run: python -m benchmarks.NAME."""
