"""Training through the public API, on small data."""

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm


@pytest.mark.slow
def test_the_random_training_part_of_a_split_is_recognised_as_sampled():
    recipe = tm.TrainingConfig(epochs=1, batch_size=4)
    data = tm.synthetic(users=20, items=15, interactions=120, seed=1)
    split = tm.split_by_item(data)
    assert split.train.sampled
    assert not tm.split_leave_last_out(data).train.sampled
    by_split = tm.train(split, tm.Strategy(training=recipe), progress=False)
    by_part = tm.train(split.train, tm.Strategy(training=recipe), progress=False)
    np.testing.assert_array_equal(by_split.item_index, by_part.item_index)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [tm.split_cold_users, tm.split_cold_items])
def test_cold_splits_can_be_trained_evaluated_and_exported(protocol, tmp_path):
    data = tm.synthetic(users=30, items=20, interactions=200, seed=1)
    split = protocol(data, test=0.3, validation=0.2)
    recipe = tm.TrainingConfig(epochs=2, batch_size=16)
    strategy = tm.Strategy("two_tower", tm.TwoTowerConfig(user_id=True, user_features=True), recipe)
    model = tm.train(split, strategy, progress=False)
    found = tm.evaluate(model, split, baselines=("popularity",), resamples=10)
    assert np.isfinite(found["two_tower"]["ndcg@10"].value)
    assert tm.export(model, tmp_path / "cold").name == "1"


def test_unknown_users_get_the_prior_and_unknown_items_their_content():
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
    # An item without events has the embedding of its kind, whatever its initial embedding was.
    row = {"kind": model.spec.encode_items(items)["kind"][model.spec.items.encode(["new"])]}
    alone = model.embed_item({"item_id": np.zeros(1, np.int32), **row})
    np.testing.assert_allclose(
        model.item_embeddings()[model.spec.items.encode(["new"])[0] - 1], alone[0, :-1], atol=1e-6
    )


def test_warns_if_no_validation_item_is_in_the_catalogue(caplog):
    data = tm.Interactions.from_arrays(
        [f"u{i % 5}" for i in range(40)], [f"i{i % 8}" for i in range(40)], time=range(40)
    )
    split = tm.split_cold_items(data, 0.25, 0.25)  # no items table: the catalogue lacks them
    recipe = tm.TrainingConfig(epochs=2, batch_size=8)
    model = tm.train(split, tm.Strategy(training=recipe), progress=False)
    assert len(model.curve) == 2
    assert "No validation event has an item of the catalogue" in caplog.text


def test_refuses_other_types_and_empty_data():
    with pytest.raises(TypeError, match="is a list"):
        tm.train([1, 2])
    with pytest.raises(ValueError, match="no events"):
        tm.train(tm.synthetic(users=5, items=5, interactions=10).take([]), "popularity")


def test_large_numbers_and_vectors_with_gaps_can_be_trained_saved_and_exported(tmp_path):
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
