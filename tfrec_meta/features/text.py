"""Splits texts into words and hashes them, with the same ops in memory and in a SavedModel."""

from __future__ import annotations

import tensorflow as tf

from tfrec_meta.features.kinds import MAX_NGRAM, HashedText

# ICU lowers these letters by the locale of the process (Turkish, Azeri, Lithuanian), which may
# differ between server and trainer. So they are lowered here, the Turkish dotted I to a plain one.
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
# The same for lower-case ASCII. A single space between two words stays, since matches take time.
_NOT_ASCII_WORD = r" *[\x00-\x1f!-/:-@\[-`{-\x7f][^0-9a-z]*|  +"

# Number of bits of the hash of n-grams, and one factor of that size per character: digits of pi.
_BITS = 40
_FACTORS = (0x243F6A8885, 0xA308D31319, 0x8A2E037073, 0x44A4093822) + (
    *(0x299F31D008, 0x2EFA98EC4E, 0x6C89452821, 0xE638D01377),
)
assert len(_FACTORS) == MAX_NGRAM


def words(texts: tf.Tensor, width: int) -> tf.Tensor:
    """Splits texts into lower-case words, with accents and without punctuation and symbols.

    Args:
        texts: string [n]. Bytes that are not UTF-8 are replaced, so that one invalid row does not
            fail the whole batch in serving.
        width: number of words that are kept per text, the first ones.

    Returns:
        string [n, width], padded with "" on the right.
    """
    return tf.strings.split(_normalised(texts)).to_tensor(default_value="", shape=[None, width])


def hashed(texts: tf.Tensor, feature: HashedText) -> tf.Tensor:
    """Returns the rows of the words and n-grams of texts; the rows of a text depend on it alone.

    A text is treated as its words with one space between them. Null counts as "". A text without
    letters and numbers, such as emoji or punctuation, has no words, and all of its rows are 0.

    Args:
        texts: string [n], any bytes.
        feature: its widths and n-gram lengths.

    Returns:
        int32 [n, encoded_width], from 1 to `buckets`; 0 for padding.
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
    """Returns the rows, int32 [n, width], of strings [n, (words)]."""
    rows = tf.cast(tf.strings.to_hash_bucket_fast(found.values, buckets), tf.int32) + 1
    return found.with_values(rows).to_tensor(default_value=0, shape=[None, width])


def _rows_of_ngrams(text: tf.Tensor, feature: HashedText) -> list[tf.Tensor]:
    """Returns per n-gram length int32 [n, characters + 3 - length], in the order of the text.

    An n-gram is a vector of code points and is hashed with one product per character, without
    creating substrings.

    Source: vector multiply-shift, a universal hash; Thorup, "High Speed Hashing for Integers and
    Strings", arXiv 1504.06804, 2015.
    """
    cut = tf.strings.strip(tf.strings.substr(text, 0, feature.characters, unit="UTF8_CHAR"))
    marked = tf.where(cut == "", "", tf.strings.join([" ", cut, " "]))
    # All texts concatenated, since most are far shorter than the longest.
    decoded = tf.strings.unicode_decode(marked, "UTF-8")
    longest, size = max(feature.ngrams), tf.size(decoded.values)
    codes = tf.pad(tf.cast(decoded.values, tf.int64), [[0, longest]])
    row = decoded.value_rowids()
    later_row = tf.pad(row, [[0, longest]], constant_values=-1)
    found: dict[int, tf.Tensor] = {}
    hashes = tf.zeros_like(row)
    for n, factor in enumerate(_FACTORS[:longest], start=1):
        last = slice(n - 1, n - 1 + size)  # last characters of the n-grams, by first character
        # Below 2**40 + 2**40 * 2**21, so nothing overflows.
        hashes = tf.bitwise.bitwise_and(hashes + factor * codes[last], 2**_BITS - 1)
        if n in feature.ngrams:
            bucket = tf.bitwise.right_shift(hashes * feature.buckets, _BITS)
            rows = tf.where(row == later_row[last], tf.cast(bucket, tf.int32) + 1, 0)
            rows = decoded.with_values(rows)
            found[n] = rows.to_tensor(0, shape=[None, feature.characters + 3 - n])
    return [found[n] for n in feature.ngrams]


def _normalised(texts: tf.Tensor) -> tf.Tensor:
    """Returns the words of each text separated by spaces, possibly also around them; string [n].

    ASCII texts are handled apart, with the same result in a quarter of the time.
    """
    is_wide = tf.cast(~tf.strings.regex_full_match(texts, _ASCII), tf.int32)
    ascii_row, wide_row = tf.dynamic_partition(tf.range(tf.size(texts)), is_wide, 2)
    ascii_text, wide = tf.dynamic_partition(texts, is_wide, 2)
    lower = tf.strings.lower(ascii_text, encoding="")
    words = tf.strings.regex_replace(lower, _NOT_ASCII_WORD, " ")
    return tf.dynamic_stitch([ascii_row, wide_row], [words, _normalised_unicode(wide)])


def _normalised_unicode(texts: tf.Tensor) -> tf.Tensor:
    valid = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    # `tf.strings.lower` drops everything after a NUL, which separates words like other symbols.
    valid = tf.strings.regex_replace(valid, r"\x00", " ")
    for upper, lower in _BY_LOCALE.items():
        valid = tf.strings.regex_replace(valid, upper, lower)
    return tf.strings.regex_replace(tf.strings.lower(valid, encoding="utf-8"), _NOT_WORD, " ")
