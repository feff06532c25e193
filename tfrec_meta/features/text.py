"""Words of a text: one rule, run by the same TensorFlow ops in memory and inside a SavedModel."""

from __future__ import annotations

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)

import tensorflow as tf

# ICU lowers these letters by the locale of the process (Turkish, Azeri, Lithuanian), and a server
# may have another than the trainer; so they are lowered here, the Turkish dotted I to a plain one.
_BY_LOCALE = {
    "[I\u0130]": "i",
    "J": "j",
    "\u012e": "\u012f",
    "\u00cc": "\u00ec",
    "\u00cd": "\u00ed",
    "\u0128": "\u0129",
}
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
    for upper, lower in _BY_LOCALE.items():
        valid = tf.strings.regex_replace(valid, upper, lower)
    spaced = tf.strings.regex_replace(tf.strings.lower(valid, encoding="utf-8"), _NOT_WORD, " ")
    return tf.strings.split(spaced).to_tensor(default_value="", shape=[None, width])
