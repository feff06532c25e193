import pytest

import tfrec_meta as tm
from tests.workflows.small_split import SPLIT


def test_recommend_lists_unseen_items_by_popularity_and_ties_by_catalogue_order(popularity):
    known, stranger = tm.recommend(popularity, ["u", "nobody"], SPLIT.train, k=3)
    assert [each.item_id for each in known] == ["b", "c", "d"]  # u has a; c and d are level
    assert [each.item_id for each in stranger] == ["a", "b", "c"]
    assert known[0].score > known[1].score == known[2].score
    everything = tm.recommend(popularity, ["w"], SPLIT.train, k=10)[0]
    assert [each.item_id for each in everything] == ["c", "d"]


def test_recommend_refuses_a_single_id(popularity):
    with pytest.raises(ValueError, match="list of ids"):
        tm.recommend(popularity, "u", SPLIT.train)
