"""Examples: the demo, the pipeline and Airflow on MovieLens-100K."""

import tfrec_meta  # noqa: F401  (chooses Keras 2 before an example imports TensorFlow or TFX)
