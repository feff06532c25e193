"""The library in a handful of calls, on data small enough to work out by hand."""

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm

# Popularity in train: a 3, b 2, c 1, d 1. The test rows of u are b and d, that of v is c; e is new.
DATA = tm.Interactions.from_arrays(
    ["u", "v", "w", "v", "w", "x", "x", "u", "u", "v", "w"],
    ["a", "a", "a", "b", "b", "c", "d", "b", "d", "c", "e"],
    time=range(11),
)
SPLIT = tm.Split(DATA, np.arange(7), np.array([], np.int64), np.arange(7, 11), "given", None)


@pytest.fixture(scope="module")
def popularity():
    return tm.train(SPLIT, "popularity")


def test_evaluate_ranks_what_is_left_for_each_user_worked_by_hand(popularity):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=(), resamples=0)["popularity"]
    # u has seen a: b is first, c and d share the places 2 and 3, of which 2.5 is the mean: no hit.
    # v has seen a and b: c and d share the places 1 and 2, so the rank of c is 1.5.
    # w's only test item is not in the catalogue: a miss.
    u, v = 1 / (1 + 1 / np.log2(3)), 1 / np.log2(2.5)
    assert found["ndcg@2"].value == pytest.approx((u + v + 0) / 3)
    assert found["recall@2"].value == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found.counts["outside"] == 1


def test_evaluate_puts_the_baselines_beside_the_model(popularity):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=("popularity", "ease"), resamples=0)
    assert list(found) == ["popularity", "popularity (baseline)", "ease"]
    ours, baseline = found["popularity"], found["popularity (baseline)"]
    assert ours["ndcg@2"].value == pytest.approx(baseline["ndcg@2"].value)
    assert "ease" in str(found)


def test_evaluate_refuses_an_unknown_baseline(popularity):
    with pytest.raises(ValueError, match="oracle"):
        tm.evaluate(popularity, SPLIT, k=2, baselines=("oracle",))


def test_evaluate_refuses_a_split_without_test_events(popularity):
    nothing = tm.Split(DATA, np.arange(11), np.arange(0), np.arange(0), "given", None)
    with pytest.raises(ValueError, match="no held-out events"):
        tm.evaluate(popularity, nothing)


def test_a_random_part_is_trained_on_as_one():
    recipe = tm.TrainingConfig(epochs=1, batch_size=4)
    data = tm.synthetic(users=20, items=15, interactions=120, seed=1)
    split = tm.split_by_item(data)
    assert split.train.sampled
    assert not tm.split_leave_last_out(data).train.sampled
    by_split = tm.train(split, tm.Strategy(training=recipe), progress=False)
    by_part = tm.train(split.train, tm.Strategy(training=recipe), progress=False)
    np.testing.assert_array_equal(by_split.item_index, by_part.item_index)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"family": "oracle"}, "oracle"),
        ({"model": {"dimension": 8}}, "no dimension"),
        ({"model": {"embedding_dim": "64"}}, "TwoTowerConfig"),
        ({"training": {"epoch": 8}}, "no epoch"),
    ],
)
def test_a_strategy_that_makes_no_sense_is_refused_by_name(record, message):
    with pytest.raises(ValueError, match=message):
        tm.Strategy.from_dict(record)


@pytest.mark.parametrize("protocol", [tm.split_cold_users, tm.split_cold_items])
def test_cold_splits_go_the_whole_road(protocol, tmp_path):
    data = tm.synthetic(users=30, items=20, interactions=200, seed=1)
    split = protocol(data, test=0.3, validation=0.2)
    recipe = tm.TrainingConfig(epochs=2, batch_size=16)
    strategy = tm.Strategy("two_tower", tm.TwoTowerConfig(user_id=True, user_features=True), recipe)
    model = tm.train(split, strategy, progress=False)
    found = tm.evaluate(model, split, baselines=("popularity",), resamples=10)
    assert np.isfinite(found["two_tower"]["ndcg@10"].value)
    assert tm.export(model, tmp_path / "cold").name == "1"


def test_who_and_what_training_never_met_is_served_by_content_and_prior():
    users = pa.table({"user_id": ["u", "v", "silent"]})
    items = pa.table({"item_id": ["a", "b", "new"], "kind": ["x", "y", "x"]})
    data = tm.Interactions.from_arrays(
        ["u", "u", "v"], ["a", "b", "a"], time=[1, 2, 3], users=users, items=items
    )
    strategy = tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(user_id=True),
        tm.TrainingConfig(epochs=1, batch_size=2),
        tm.FeatureSpec(item=(tm.Category("kind"),)),
    )
    model = tm.train(data, strategy, progress=False)
    silent = model.score(model.spec.encode_queries(["silent"]))[0]
    np.testing.assert_allclose(silent, model.prior(), rtol=1e-6)
    # The item that nobody met stands where its kind stands, whatever its initial embedding was.
    row = {"kind": model.spec.encode_items(items)["kind"][model.spec.items.encode(["new"])]}
    alone = model.embed_item({"item_id": np.zeros(1, np.int32), **row})
    np.testing.assert_allclose(
        model.item_embeddings()[model.spec.items.encode(["new"])[0] - 1], alone[0, :-1], atol=1e-6
    )


def test_a_report_shows_whom_it_is_asked_for(popularity, tmp_path):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=(), resamples=10)
    page = tm.report(tmp_path / "report.html", popularity, SPLIT, found, users=["v", "x"], k=2)
    text = page.read_text()
    assert "User v" in text
    assert "User x" in text
    with pytest.raises(ValueError, match="nobody"):
        tm.report(tmp_path / "other.html", popularity, SPLIT, found, users=["nobody"])


def test_validation_that_nothing_can_be_found_in_is_left_out_with_a_warning(caplog):
    data = tm.Interactions.from_arrays(
        [f"u{i % 5}" for i in range(40)], [f"i{i % 8}" for i in range(40)], time=range(40)
    )
    split = tm.split_cold_items(data, 0.25, 0.25)  # no items table: the catalogue lacks them
    recipe = tm.TrainingConfig(epochs=2, batch_size=8)
    model = tm.train(split, tm.Strategy(training=recipe), progress=False)
    assert len(model.curve) == 2
    assert "No validation event has an item of the catalogue" in caplog.text


def test_what_is_no_data_and_what_is_empty_is_refused():
    with pytest.raises(TypeError, match="is a list"):
        tm.train([1, 2])
    with pytest.raises(ValueError, match="no events"):
        tm.train(DATA.take([]), "popularity")


def test_wide_numbers_and_vectors_with_gaps_go_the_whole_road(tmp_path):
    items = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "hash": pa.array([1_600_000_000_000_000_001, 2, 3], pa.int64()),
            "picture": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        }
    )
    data = tm.Interactions.from_arrays(
        ["u", "u", "v", "v"], ["a", "b", "a", "c"], time=range(4), items=items
    )
    features = tm.FeatureSpec(item=(tm.Number("hash"), tm.Vector("picture", 2)))
    strategy = tm.Strategy(training=tm.TrainingConfig(epochs=1, batch_size=2), features=features)
    model = tm.train(data, strategy, progress=False)
    tm.save(model, tmp_path / "model")
    assert tm.export(model, tmp_path / "served").name == "1"
    huge = {"item_id": np.zeros(1, np.int32)} | {
        "hash": np.zeros((1, 2), np.float32),
        "picture": model.spec.encode_feature(features.item[1], [[3e38, -3e38]], "item"),
    }
    assert np.isfinite(model.embed_item(huge)).all()


def test_recommend_gives_the_best_of_what_is_left_worked_by_hand(popularity):
    known, stranger = tm.recommend(popularity, ["u", "nobody"], SPLIT.train, k=3)
    assert [each.item_id for each in known] == ["b", "c", "d"]  # u has a; c and d are level
    assert [each.item_id for each in stranger] == ["a", "b", "c"]
    assert known[0].score > known[1].score == known[2].score
    everything = tm.recommend(popularity, ["w"], SPLIT.train, k=10)[0]
    assert [each.item_id for each in everything] == ["c", "d"]


def test_recommend_wants_a_list_of_users(popularity):
    with pytest.raises(ValueError, match="list of ids"):
        tm.recommend(popularity, "u", SPLIT.train)
