"""Items with the vectors of their texts, and the features of who reads these."""

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.content.text_vectors import (
    data_embedding,
    teacher_features,
    text_columns,
    with_text_vectors,
)


class Encoder:
    """Two numbers a text: its length, and 1."""

    dimension = 2

    def __init__(self):
        self.asked = []

    def encode(self, texts, progress=False):
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], np.float32)


@pytest.fixture
def data():
    items = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "title": ["Heat", None, "電影 🎬"],
            "genres": [["War", "Drama"], None, []],
            "year": [1995, 1996, None],
        }
    )
    return tm.Interactions.from_arrays(["u", "u"], ["a", "b"], items=items)


def test_texts_are_columns_joined_by_spaces_without_nulls(data):
    encoder = Encoder()
    found = with_text_vectors(data, encoder, ["title", "genres"])
    assert encoder.asked == ["Heat War Drama", "", "電影 🎬"]
    assert found.items["text_vector"].to_pylist() == [[14, 1], [0, 1], [4, 1]]
    assert "text_vector" not in data.items.column_names


def test_new_vectors_replace_earlier_ones(data):
    once = with_text_vectors(data, Encoder(), ["title"])
    again = with_text_vectors(once, Encoder(), ["genres"])
    assert again.items.column_names.count("text_vector") == 1
    assert again.items["text_vector"].to_pylist()[0] == [9, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["plot"], "`columns` has 'plot'; use columns of the items table"),
        (["year"], "Column 'year' has 1995"),
        ([], "`columns` is empty"),
    ],
)
def test_columns_without_texts_are_refused(data, columns, message):
    with pytest.raises(ValueError, match=message):
        with_text_vectors(data, Encoder(), columns)


def test_missing_items_table_is_refused():
    with pytest.raises(ValueError, match="no items table"):
        with_text_vectors(tm.Interactions.from_arrays(["u"], ["i"]), Encoder(), ["title"])


def test_teacher_features_have_the_vector_in_place_of_the_texts(data):
    spec = tm.FeatureSpec(
        item=(tm.Text("title"), tm.Category("genres", width=2), tm.Number("year"))
    ).fit(data)
    assert text_columns(spec) == ["title"]
    found = teacher_features(spec, Encoder())
    assert found.item == (
        tm.Category("genres", width=2),
        tm.Number("year"),
        tm.Vector("text_vector", 2),
    )
    assert found.takes_queries_of(spec)
    assert "item.title" not in found.vocabularies
    assert found.vocabularies["item.genres"] == spec.vocabularies["item.genres"]


def test_data_embedding_is_the_mean_of_description_and_texts(data):
    encoder = Encoder()
    assert data_embedding(data, "films", encoder) == [(5 + (4 + 4) / 2) / 2, 1]
    assert sorted(encoder.asked) == ["Heat", "films", "電影 🎬"]
    assert data_embedding(data, " ", Encoder()) == [4, 1]
    bare = tm.Interactions.from_arrays(["u"], ["i"])
    assert data_embedding(bare, "films", Encoder()) == [5, 1]
    assert data_embedding(bare, "", Encoder()) is None
