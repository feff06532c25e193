"""Vocabularies: growth, what is dropped, and the file that TensorFlow reads."""

import numpy as np
import pyarrow as pa
import pytest

from tfrec_meta.features.vocabulary import NO_TOKENS, Vocabulary

WILD = [
    "plain",
    " leading and trailing ",
    "\ttab\t",
    "quote \" and ' and \\",
    "comma, and ; semicolon",
    "naïve",
    "nai\u0308ve",  # the same in another normal form is another token
    "电影",
    "🎬👩‍👩‍👧",
    "\ufeffbyte order mark",
    "line\u2028and\u2029separators\x85\x0b\x0c",  # only \n and \r end a line
    "nul\x00inside",
    "#",
    "-1",
    "\u200b",
]


def test_tokens_stand_by_falling_count_then_by_token():
    grown = Vocabulary().grow(pa.array(["b", "c", "a", "c", "b", "c", "é", "Z"]))
    assert grown.tokens.to_pylist() == ["c", "b", "Z", "a", "é"]
    assert len(grown) == 6


def test_growth_keeps_rows_and_appends_only_what_is_new():
    before = Vocabulary().grow(pa.array(["a", "b", "b"]))
    after = before.grow(pa.array(["z", "a", "a", "a", "y", "y"]))
    assert after.tokens.to_pylist() == ["b", "a", "y", "z"]
    assert before.tokens.to_pylist() == ["b", "a"]


def test_growth_by_nothing_new_gives_an_equal_vocabulary():
    before = Vocabulary().grow(pa.array(["a", "b"]))
    assert before.grow(pa.array(["b", "b", "a"])) == before
    assert before.grow(pa.array([], pa.string())) == before


def test_rare_new_tokens_stay_unknown_and_known_ones_stay():
    before = Vocabulary().grow(pa.array(["a"]))
    after = before.grow(pa.array(["b", "b", "c", "a"]), min_count=2)
    assert after.tokens.to_pylist() == ["a", "b"]


def test_null_empty_and_line_breaks_are_dropped_and_encode_as_unknown():
    values = [None, "", "a\nb", "a\rb", "\r\n", "a b"]
    grown = Vocabulary().grow(pa.array(values))
    assert grown.tokens.to_pylist() == ["a b"]
    assert grown.encode(pa.array(values)).tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["b", "a", "b"]),
        pa.chunked_array([["b"], [], ["a", "b"]]),
        pa.chunked_array([["b"], ["a", "b"]]).dictionary_encode(),
        pa.array(["b", "a", "b"], pa.large_string()),
        pa.array(["x", "b", "a", "b"]).slice(1),
    ],
    ids=["array", "chunks", "dictionary", "large", "slice"],
)
def test_all_arrow_types_have_the_same_counts_and_encoding(values):
    grown = Vocabulary().grow(values)
    assert grown.tokens.to_pylist() == ["b", "a"]
    assert grown.encode(values).tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    "values",
    [["a", None, "x", ""], np.array(["a", None, "x", ""], object), np.array(["a", "", "x", ""])],
    ids=["list", "objects", "text array"],
)
def test_python_and_numpy_encode_as_arrow_does(values):
    rows = Vocabulary(pa.array(["z", "a"])).encode(values)
    assert rows.dtype == np.int32
    assert rows.tolist() == [2, 0, 0, 0]


def test_whole_numbers_are_looked_up_as_their_digits():
    assert Vocabulary(pa.array(["7", "10"])).encode([10, 7, 8]).tolist() == [2, 1, 0]


def test_nothing_encodes_as_nothing():
    assert Vocabulary(pa.array(["a"])).encode([]).shape == (0,)
    assert Vocabulary().encode(["a"]).tolist() == [0]


def test_decode_gives_the_tokens_in_the_shape_of_the_rows():
    decoded = Vocabulary(pa.array(["a", "b"])).decode(np.array([[2, 0], [1, 2]]))
    assert decoded.dtype == object
    assert decoded.tolist() == [["b", ""], ["a", "b"]]


def test_wild_tokens_come_back_from_the_file_as_themselves(tmp_path):
    vocabulary = Vocabulary().grow(pa.array(WILD))
    assert len(vocabulary) == len(WILD) + 1
    vocabulary.write(tmp_path / "v.txt")
    assert Vocabulary.read(tmp_path / "v.txt") == vocabulary


def test_an_empty_vocabulary_comes_back_empty(tmp_path):
    Vocabulary().write(tmp_path / "v.txt")
    assert len(Vocabulary.read(tmp_path / "v.txt")) == 1
    (tmp_path / "v.txt").write_bytes(NO_TOKENS)
    assert len(Vocabulary.read(tmp_path / "v.txt")) == 1


def test_equality_and_text_form():
    assert Vocabulary(pa.array(["a"])) != Vocabulary(pa.array(["b"]))
    assert Vocabulary(pa.array(["a"])) != ["a"]
    assert repr(Vocabulary(pa.array(["a"] * 1))) == "Vocabulary(1 tokens)"


@pytest.mark.parametrize("content", [b"tea\nmi", b"tea\n\xff\xfe\n"])
def test_a_cut_file_is_named_with_the_way_out(tmp_path, content):
    (tmp_path / "item_id.txt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"item_id\.txt is damaged: .* Fit and save the spec again"
    ):
        Vocabulary.read(tmp_path / "item_id.txt")
