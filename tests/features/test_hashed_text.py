"""Hashed words and n-grams of a text, in memory and in the graph."""

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec, HashedText, text
from tfrec_meta.features.graph import GraphEncoder, raw_default, raw_dtype, raw_width

PLAIN = HashedText("title", width=3, ngrams=(3,), characters=8, buckets=1_000_000)
RICH = HashedText("search", width=2, bigrams=True, ngrams=(2, 5, 3), characters=9, buckets=50)
WORDS = HashedText("tags", width=1, bigrams=True, ngrams=(), buckets=7)
FEATURES = (PLAIN, RICH, WORDS)
# Digits of pi: the multipliers of an n-gram's characters.
PI = 0x243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89452821E638D01377


@pytest.fixture(scope="module")
def spec():
    table = pa.table({"item_id": ["a"], "title": ["A"], "search": ["B"], "tags": ["C"]})
    return FeatureSpec(item=FEATURES).fit(Interactions.from_arrays(["u"], ["a"], items=table))


@pytest.fixture(scope="module")
def graph(spec, tmp_path_factory):
    encoder = GraphEncoder(spec, tmp_path_factory.mktemp("vocabularies"))
    return tf.function(encoder.encode_item, reduce_retracing=True)


def rows(feature, *texts):
    return text.hashed(tf.constant(list(texts), tf.string), feature).numpy()


def row_of_ngram(gram, buckets):
    factors = [PI >> (320 - 40 * (i + 1)) & (2**40 - 1) for i in range(8)]
    total = sum(factor * ord(c) for factor, c in zip(factors, gram, strict=False)) % 2**40
    return 1 + total * buckets // 2**40


def row_of_word(word, buckets):
    return 1 + int(tf.strings.to_hash_bucket_fast([word], buckets)[0])


def test_words_then_ngrams_each_with_blanks_around():
    word = [row_of_word(w, 1_000_000) for w in ("the", "fly")]
    grams = [" th", "the", "he ", "e f", " fl", "fly", "ly "]
    expected = [*word, 0, *(row_of_ngram(gram, 1_000_000) for gram in grams), 0]
    assert rows(PLAIN, "The... FLY!").tolist() == [expected]
    assert PLAIN.encoded_width == len(expected)


def test_pairs_of_words_and_ngrams_keep_the_declared_order():
    word = [row_of_word(w, 50) for w in ("it", "is")]
    pair = [row_of_word("it is", 50)]
    two = [row_of_ngram(gram, 50) for gram in (" i", "it", "t ", " i", "is", "s ")]
    five = [row_of_ngram(gram, 50) for gram in (" it i", "it is", "t is ")]
    three = [row_of_ngram(gram, 50) for gram in (" it", "it ", "t i", " is", "is ")]
    expected = word + pair + two + [0] * 4 + five + [0] * 4 + three + [0] * 4
    assert rows(RICH, "It is").tolist() == [expected]
    assert RICH.encoded_width == len(expected)


def test_a_hash_is_the_same_for_ever():
    """A changed one would make nonsense of every saved model."""
    feature = HashedText("x", width=1, ngrams=(3,), characters=1)
    assert rows(feature, "É").tolist() == [[3266, 1559]]


def test_rows_spread_nearly_as_if_drawn_by_chance():
    """8,000 draws would hit 5,107 of 8,192 rows; all n-grams of a few letters are a hard case."""
    letters = "etaoinshrdlucmfwypvb"
    texts = [a + b + c for a in letters for b in letters for c in letters]
    feature = HashedText("x", width=1, ngrams=(5,), characters=3, buckets=8192)
    found = rows(feature, *texts)[:, 1]
    expected = 8192 * (1 - (1 - 1 / 8192) ** 8000)
    assert abs(len(np.unique(found)) / expected - 1) < 0.1
    assert found.min() >= 1
    assert found.max() <= 8192


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("empty", ["", " \t\n", "?!…", "🎬👩‍👩‍👧", "\x00", b"\xff\xfe"])
def test_a_text_without_letters_and_numbers_is_nothing(feature, empty):
    assert not rows(feature, empty).any()


def test_the_mark_that_some_emoji_carry_is_a_word():
    assert rows(PLAIN, "\u2764\ufe0f")[0, 0] == row_of_word("\ufe0f", 1_000_000)


def test_a_null_is_an_empty_text(spec):
    for feature in FEATURES:
        column = pa.array([None, "", "word"], pa.string())
        encoded = spec.encode_feature(feature, column, "item")
        assert not encoded[:2].any()
        assert encoded[2].any()


def test_a_long_text_counts_by_its_beginning():
    feature = HashedText("x", width=2, ngrams=(3,), characters=10)
    long = "over the moon " + "and on " * 1_500
    assert len(long) > 10_000
    # n-grams come from "over the m"
    cut = rows(HashedText("x", width=3, ngrams=(3,), characters=10), "over the m")
    assert rows(feature, long).tolist()[0][2:] == cut.tolist()[0][3:]
    assert rows(feature, long).tolist()[0][:2] == [row_of_word(w, 8192) for w in ("over", "the")]
    one_word = rows(feature, "x" * 10_000)[0]
    assert one_word[0] == row_of_word("x" * 10_000, 8192)
    assert one_word[2:].tolist() == rows(feature, "x" * 10)[0][2:].tolist()


def test_chinese_titles_share_ngrams():
    feature = HashedText("x", ngrams=(2, 3))
    one, other, far = (set(row[row > 0]) for row in rows(feature, "霸王别姬", "霸王茶姬", "电影"))
    assert len(one & other) >= 3  # " 霸", "霸王", " 霸王", "姬 "
    assert len(one & other) > len(one & far)


def test_no_text_has_no_rows(spec):
    for feature in FEATURES:
        assert rows(feature).shape == (0, feature.encoded_width)
        empty = spec.encode_feature(feature, pa.array([], pa.string()), "item")
        assert empty.shape == (0, feature.encoded_width)


wild = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text(" a-B.\t9", max_size=12),
    st.sampled_from(
        ["", "电影", "🎬", "ΟΔΥΣΣΕΥΣ", "İstanbul", "nul\x00in", "e\u0301", "long " * 2_000]
    ),
)


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(wild, min_size=1, max_size=5))
def test_rows_are_the_same_in_memory_and_in_the_graph(spec, graph, texts):
    given = {f.name: tf.constant(texts) for f in FEATURES}
    encoded = graph({"item_id": tf.fill([len(texts)], "a"), **given})
    for feature in FEATURES:
        in_memory = spec.encode_feature(feature, pa.array(texts), "item")
        assert in_memory.dtype == encoded[feature.name].dtype == np.int32
        np.testing.assert_array_equal(encoded[feature.name], in_memory, err_msg=feature.name)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(wild | st.binary(max_size=6), min_size=1, max_size=5))
def test_a_text_does_not_depend_on_its_neighbours(texts):
    for feature in FEATURES:
        alone = np.concatenate([rows(feature, value) for value in texts])
        np.testing.assert_array_equal(rows(feature, *texts), alone, err_msg=feature.name)
        assert alone.min() >= 0
        assert alone.max() <= feature.buckets


def test_many_texts_are_encoded_in_parts(spec, monkeypatch):
    texts = pa.array([f"text {i}" for i in range(10)])
    whole = spec.encode_feature(PLAIN, texts, "item")
    monkeypatch.setattr("tfrec_meta.features.text_columns._TEXTS_PER_BATCH", 3)
    np.testing.assert_array_equal(spec.encode_feature(PLAIN, texts, "item"), whole)


# The feature in its spec.


def test_nothing_is_fitted(spec):
    assert set(spec.vocabularies) == {"user_id", "item_id"}
    assert not spec.statistics
    assert [spec.height(feature, "item") for feature in FEATURES] == [1_000_001, 51, 8]


def test_a_missing_column_is_named():
    data = Interactions.from_arrays(["u"], ["a"], items=pa.table({"item_id": ["a"]}))
    with pytest.raises(ValueError, match="no column `title`"):
        FeatureSpec(item=(PLAIN,)).fit(data)


def test_a_spec_round_trips(spec, tmp_path):
    spec.save(tmp_path / "spec")
    assert FeatureSpec.load(tmp_path / "spec") == spec
    assert HashedText("x", ngrams=[3]) == HashedText("x", ngrams=(3,))


def test_a_request_carries_a_string():
    assert raw_dtype(PLAIN) == tf.string
    assert raw_width(PLAIN) is None
    assert raw_default(PLAIN).numpy().tolist() == [b""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "`width`=0; use 1 or more"),
        ({"buckets": 0}, "`buckets`=0; use a number from 1 to 1048576"),
        ({"buckets": 2**20 + 1}, "`buckets`=1048577; use a number from 1 to 1048576"),
        ({"characters": 0}, "`characters`=0; use 1 or more"),
        ({"ngrams": (1, 2)}, "different lengths from 2 to 8"),
        ({"ngrams": (3, 9)}, "different lengths from 2 to 8"),
        ({"ngrams": (3, 3)}, "different lengths from 2 to 8"),
        ({"ngrams": (5,), "characters": 2}, "different lengths from 2 to 4"),
    ],
)
def test_refuses_invalid_hashed_texts(arguments, message):
    with pytest.raises(ValueError, match=message):
        HashedText("x", **arguments)
