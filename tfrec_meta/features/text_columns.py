"""Encodes text columns in memory, with the same TensorFlow ops that a SavedModel runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from tfrec_meta.features.columns import as_arrow, tokens
from tfrec_meta.features.kinds import HashedText

_TEXTS_PER_BATCH = 8192  # intermediate results are many times as large as the encoding


def words(values: Any, width: int, name: str) -> np.ndarray:
    """Returns the first words of each text, object [n, width], padded with "".

    Args:
        values: a column of texts.
        width: number of words that are kept.
        name: names the column in errors.
    """
    from tfrec_meta.features import text  # imports TensorFlow, which other features do not need

    found = text.words(_texts(values, name), width).numpy()
    decoded = pa.array(found.ravel(), pa.binary()).cast(pa.string())
    return decoded.to_numpy(zero_copy_only=False).reshape(found.shape)


def hashed(values: Any, feature: HashedText) -> np.ndarray:
    """Returns the hashed words and n-grams of each text, int32 [n, encoded_width]."""
    from tfrec_meta.features import text  # as in `words`

    texts = _texts(values, feature.name)
    parts = [
        text.hashed(texts[begin : begin + _TEXTS_PER_BATCH], feature).numpy()
        for begin in range(0, len(texts), _TEXTS_PER_BATCH)
    ]
    return np.concatenate([np.zeros((0, feature.encoded_width), np.int32), *parts])


def _texts(values: Any, name: str) -> np.ndarray:
    """Object array [n], "" for null."""
    return np.asarray(tokens(as_arrow(values), name).to_numpy(zero_copy_only=False), object)
