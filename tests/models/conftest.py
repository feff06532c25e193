"""Chooses Keras 2 before a test module imports KerasTuner."""

import tfrec_meta  # noqa: F401
