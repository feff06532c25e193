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


@pytest.fixture(scope="module")
def meta_learned():
    data = tm.synthetic(users=300, items=60, interactions=6000, seed=3)
    config = tm.MetaLearnedConfig(embedding_dim=8, shots=5, folds=2, steps=0)
    return tm.train(data, tm.Strategy("meta_learned", config), progress=False)


def test_adapt_recommends_items_outside_support_and_exclude(meta_learned):
    (found,) = tm.adapt(meta_learned, [["i3", "i7", "unknown"]], k=58, exclude=[["i9"]])
    assert found.support_used == 2
    listed = [item.item_id for item in found.items]
    assert len(listed) == len(set(listed)) == 57
    assert not {"i3", "i7", "i9"} & set(listed)
    scores = [item.score for item in found.items]
    assert scores == sorted(scores, reverse=True)


def test_adapt_without_support_is_zero_shot(meta_learned):
    nothing, unknown = tm.adapt(meta_learned, [[], ["unknown"]], k=5)
    assert nothing.items == unknown.items
    assert nothing.support_used == unknown.support_used == 0


def test_adapt_uses_labels(meta_learned):
    yes, also_yes, no = tm.adapt(meta_learned, [["i3"], {"i3": 1.0}, {"i3": 0.0}], k=5)
    assert yes.items == also_yes.items != no.items


def test_adapt_refuses_invalid_arguments(meta_learned):
    assert tm.adapt(meta_learned, []) == []
    with pytest.raises(ValueError, match="`k`=0"):
        tm.adapt(meta_learned, [["i3"]], k=0)
    with pytest.raises(ValueError, match="`exclude` has 2 rows, but `support` has 1"):
        tm.adapt(meta_learned, [["i3"]], exclude=[[], []])
    for text in ("i3", ["i3"]):
        with pytest.raises(ValueError, match="a list of ids for each user"):
            tm.adapt(meta_learned, text)
    with pytest.raises(ValueError, match="'popularity', which does not adapt"):
        tm.adapt(tm.train(SPLIT, "popularity"), [["i3"]])


def test_adapt_refuses_features_of_a_family_without_them(meta_learned):
    with pytest.raises(ValueError, match="`features` is given, but family 'meta_learned'"):
        tm.adapt(meta_learned, [["i3"]], features={"age": [20.0]})
