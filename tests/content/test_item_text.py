"""Texts of the catalogue."""

import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.content.item_text import item_texts


def test_texts_are_in_the_order_of_the_catalogue():
    items = pa.table(
        {
            "item_id": ["z", "b", "c", "a"],
            "title": ["x" * 10_000, None, "電影 🎬", "Heat"],
            "genres": [[], ["War", None, "Drama"], None, ["War"]],
        }
    )
    data = tm.Interactions.from_arrays(["u", "u", "v"], ["a", "b", "a"], items=items)
    spec = tm.FeatureSpec().fit(data)
    texts = dict(
        zip(
            spec.items.decode(range(1, 5)),
            item_texts(spec, data.items, ["title", "genres"]),
            strict=True,
        )
    )
    assert texts == {"a": "Heat War", "b": "War Drama", "c": "電影 🎬", "z": "x" * 10_000}


def test_items_missing_from_the_table_have_empty_texts():
    events = tm.Interactions.from_arrays(["u", "u"], ["a", "b"])
    spec = tm.FeatureSpec().fit(events)
    table = pa.table({"item_id": ["b", "stranger"], "title": ["Heat", "Ran"]})
    texts = dict(
        zip(spec.items.decode(range(1, 3)), item_texts(spec, table, ["title"]), strict=True)
    )
    assert texts == {"a": "", "b": "Heat"}
    with pytest.raises(ValueError, match="no items table"):
        item_texts(spec, None, ["title"])
