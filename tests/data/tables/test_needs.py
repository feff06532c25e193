"""Needed columns: which are missing, and what they are for."""

import pyarrow as pa
import pytest

from tfrec_meta.data import Interactions, read_interactions
from tfrec_meta.data.tables.needs import read_needed
from tfrec_meta.errors import MissingColumn


def shop(items=None):
    return Interactions.from_arrays(["ann"], ["tea"], time=[1], items=items)


def test_data_with_all_needed_columns_are_returned():
    data = shop(pa.table({"item_id": ["tea"], "color": ["green"]}))
    assert read_needed(lambda: data, {"time": "order", "items.color": "filters"}) is data
    assert read_needed(lambda: data, {}) is data


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (
            {"visit": "sessions"},
            "`needs` names `visit`, but .* has only user_id, item_id, time, value",
        ),
        ({"items.color": "filters"}, "there is no table of items. It is needed: filters. Name the"),
        ({"users.age": "groups"}, "there is no table of users. It is needed: groups."),
    ],
)
def test_a_missing_column_is_named_with_its_purpose(needs, words):
    with pytest.raises(MissingColumn, match=words) as error:
        read_needed(shop, needs)
    assert error.value.column == next(iter(needs))


def test_a_missing_attribute_is_named_with_those_of_the_table():
    data = shop(pa.table({"item_id": ["tea"], "size": [3]}))
    with pytest.raises(MissingColumn, match=r"has only item_id, size there. It is needed: filters"):
        read_needed(lambda: data, {"items.color": "filters"})


def test_the_purpose_is_added_to_the_error_of_a_file(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\nann,tea\n")

    def read():
        return read_interactions(path, {"time": "when"})

    purpose = "It is needed: the split is by time"
    with pytest.raises(MissingColumn, match=r"no column `when` \(for `time`\).* " + purpose):
        read_needed(read, {"time": "the split is by time"})
    with pytest.raises(MissingColumn) as error:
        read_needed(read, {"value": "the rating"})
    assert "needed" not in str(error.value)
