"""Words of a text, and their hashes: the same ops in memory and inside a SavedModel."""

from __future__ import annotations

import tensorflow as tf

from tfrec_meta.features.kinds import MAX_NGRAM, HashedText

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
_ASCII = r"[\x00-\x7f]*"
# The same among lower-case ASCII; a blank between two words stays, since each match takes time.
_NOT_ASCII_WORD = r" *[\x00-\x1f!-/:-@\[-`{-\x7f][^0-9a-z]*|  +"

# Of the hash of n-grams: as many bits, and for each character as many digits of pi.
_BITS = 40
_FACTORS = (0x243F6A8885, 0xA308D31319, 0x8A2E037073, 0x44A4093822) + (
    *(0x299F31D008, 0x2EFA98EC4E, 0x6C89452821, 0xE638D01377),
)
assert len(_FACTORS) == MAX_NGRAM


def words(texts: tf.Tensor, width: int) -> tf.Tensor:
    """Splits texts into lower-case words; accents stay, punctuation and symbols go.

    Args:
        texts: string [n]; bytes that are not UTF-8 are replaced, since one bad row must not fail
            the batch that it is served in.
        width: words kept of each text, the first ones.

    Returns:
        string [n, width], "" pads on the right.
    """
    return tf.strings.split(_normalised(texts)).to_tensor(default_value="", shape=[None, width])


def hashed(texts: tf.Tensor, feature: HashedText) -> tf.Tensor:
    """Rows of the words and n-grams of texts, whoever else stands in the batch.

    A text counts as its words, with one blank between them. A null counts as "", and a text without
    letters and numbers (of emoji, of punctuation) has no words: all of its rows are 0.

    Args:
        texts: string [n], any bytes.
        feature: says how many, and in which order.

    Returns:
        int32 [n, encoded_width], from 1 to `buckets`, 0 pads.
    """
    text = tf.strings.strip(_normalised(texts))
    found = tf.strings.split(text)
    parts = [_rows_of_words(found, feature.width, feature.buckets)]
    if feature.bigrams:
        pairs = tf.strings.ngrams(found, 2)
        parts.append(_rows_of_words(pairs, feature.width - 1, feature.buckets))
    if feature.ngrams:
        parts += _rows_of_ngrams(text, feature)
    return tf.concat(parts, axis=1)


def _rows_of_words(found: tf.RaggedTensor, width: int, buckets: int) -> tf.Tensor:
    """int32 [n, width] of the strings [n, (words)]."""
    rows = tf.cast(tf.strings.to_hash_bucket_fast(found.values, buckets), tf.int32) + 1
    return found.with_values(rows).to_tensor(default_value=0, shape=[None, width])


def _rows_of_ngrams(text: tf.Tensor, feature: HashedText) -> list[tf.Tensor]:
    """For each length, int32 [n, characters + 3 - length]: the n-grams of a text, in their order.

    An n-gram is a vector of code points, hashed by one product a character, so that no strings are
    cut out.

    Source: vector multiply-shift, a universal hash; Thorup, "High Speed Hashing for Integers and
    Strings", arXiv 1504.06804, 2015.
    """
    cut = tf.strings.strip(tf.strings.substr(text, 0, feature.characters, unit="UTF8_CHAR"))
    marked = tf.where(cut == "", "", tf.strings.join([" ", cut, " "]))
    # All texts one after another, since most would be far shorter than the longest.
    decoded = tf.strings.unicode_decode(marked, "UTF-8")
    longest, size = max(feature.ngrams), tf.size(decoded.values)
    codes = tf.pad(tf.cast(decoded.values, tf.int64), [[0, longest]])
    row = decoded.value_rowids()
    later_row = tf.pad(row, [[0, longest]], constant_values=-1)
    found: dict[int, tf.Tensor] = {}
    hashes = tf.zeros_like(row)
    for n, factor in enumerate(_FACTORS[:longest], start=1):
        last = slice(n - 1, n - 1 + size)  # of the n-gram that begins at each place
        # Below 2**40 + 2**40 * 2**21: nothing overflows.
        hashes = tf.bitwise.bitwise_and(hashes + factor * codes[last], 2**_BITS - 1)
        if n in feature.ngrams:
            bucket = tf.bitwise.right_shift(hashes * feature.buckets, _BITS)
            rows = tf.where(row == later_row[last], tf.cast(bucket, tf.int32) + 1, 0)
            rows = decoded.with_values(rows)
            found[n] = rows.to_tensor(0, shape=[None, feature.characters + 3 - n])
    return [found[n] for n in feature.ngrams]


def _normalised(texts: tf.Tensor) -> tf.Tensor:
    """The words of each text with a blank between them, and perhaps before and behind; string [n].

    A text in ASCII takes a shorter way to the same words, in a quarter of the time.
    """
    is_wide = tf.cast(~tf.strings.regex_full_match(texts, _ASCII), tf.int32)
    ascii_row, wide_row = tf.dynamic_partition(tf.range(tf.size(texts)), is_wide, 2)
    ascii_text, wide = tf.dynamic_partition(texts, is_wide, 2)
    lower = tf.strings.lower(ascii_text, encoding="")
    words = tf.strings.regex_replace(lower, _NOT_ASCII_WORD, " ")
    return tf.dynamic_stitch([ascii_row, wide_row], [words, _normalised_unicode(wide)])


def _normalised_unicode(texts: tf.Tensor) -> tf.Tensor:
    valid = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    for upper, lower in _BY_LOCALE.items():
        valid = tf.strings.regex_replace(valid, upper, lower)
    return tf.strings.regex_replace(tf.strings.lower(valid, encoding="utf-8"), _NOT_WORD, " ")
