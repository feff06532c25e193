"""Words of a text: one rule, run by the same TensorFlow ops in memory and inside a SavedModel."""

from __future__ import annotations

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)

import tensorflow as tf  # noqa: E402

_NOT_WORD = r"[^\pL\pM\pN]+"  # RE2: anything but letters, their marks, and numbers


def words(texts: tf.Tensor, width: int) -> tf.Tensor:
    """Splits texts into lower-case words; accents stay, punctuation and symbols go.

    Args:
        texts: string [n]; bytes that are not UTF-8 are replaced, since one bad row must not fail
            the batch that it is served in.
        width: words kept of each text, the first ones.

    Returns:
        string [n, width], "" pads on the right.
    """
    valid = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    spaced = tf.strings.regex_replace(tf.strings.lower(valid, encoding="utf-8"), _NOT_WORD, " ")
    split = tf.strings.split(spaced)[:, :width]
    return split.to_tensor(default_value="", shape=[None, width])
