"""One script per claim; each measures this library and a peer in the same run.

Run them as `python -m benchmarks.NAME`.
"""

import tfrec_meta  # noqa: F401  (chooses Keras 2 before a benchmark imports TensorFlow)
