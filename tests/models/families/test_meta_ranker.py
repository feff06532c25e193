"""The meta-learned ranker: trained on synthetic tastes, adapted, saved and exported."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.export import signatures as names
from tfrec_meta.models import MetaRanker

SMALL = tm.MetaRankerConfig(embedding_dim=4, hidden=(8,), shots=(0, 6), query=6, steps=4)
WIDTH = 5


def opposites(users=60):
    """Half the users give red items 5 and blue ones 1, the others the other way round."""
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(users) for item in rng.permutation(20)[:12]]
    value = [5.0 if item % 2 == user % 2 else 1.0 for user, item in rows]
    ages = [30.0 + user for user in range(users)]
    return tm.Interactions.from_arrays(
        [f"u{user}" for user, _ in rows],
        [f"i{item}" for _, item in rows],
        value=value,
        time=np.arange(len(rows)),
        users=pa.table({"user_id": [f"u{user}" for user in range(users)], "age": ages}),
        items=pa.table(
            {
                "item_id": [f"i{item}" for item in range(22)],  # two without events
                "colour": ["blue", "red"] * 11,
            }
        ),
    )


FEATURES = tm.FeatureSpec(user=(tm.Number("age"),), item=(tm.Category("colour"),))


def trained(config, data=None):
    strategy = tm.Strategy("meta_ranker", config, features=FEATURES, history_length=8)
    return tm.train(opposites() if data is None else data, strategy, progress=False)


@pytest.fixture(scope="module")
def model():
    return trained(dataclasses.replace(SMALL, steps=300, learning_rate=0.03))


def scores(answer):
    return {item.item_id: item.score for item in answer.items}


def test_two_ratings_tell_which_items_are_liked(model):
    red, blue = tm.adapt(model, [{"i1": 5.0, "i2": 1.0}, {"i1": 1.0, "i2": 5.0}], k=30)
    assert scores(red)["i3"] > 4 > 2 > scores(red)["i4"]
    assert scores(blue)["i4"] > 4 > 2 > scores(blue)["i3"]


def test_items_without_events_are_scored_by_their_features(model):
    (red,) = tm.adapt(model, [{"i1": 5.0, "i2": 1.0}], k=30)
    assert scores(red)["i21"] > 3.5 > 2.5 > scores(red)["i20"]


def test_without_support_predictions_are_near_the_usual_label(model):
    nothing, unknown = tm.adapt(model, [[], {"never seen": 5.0}], k=30)
    assert nothing.support_used == unknown.support_used == 0
    assert nothing == unknown
    assert np.allclose([*scores(nothing).values()], 3.0, atol=1.0)


def test_unknown_items_and_labels_that_are_not_finite_are_ignored(model):
    clean, noisy = tm.adapt(
        model,
        [{"i1": 5.0}, {"nobody": 1.0, "i1": 5.0, "i4": float("nan")}],
        k=5,
        exclude=[["i4"], []],
    )
    assert noisy == clean
    assert noisy.support_used == 1


def test_labels_are_clipped_to_the_range_of_the_training_data(model):
    assert tm.adapt(model, [{"i1": 5.0}]) == tm.adapt(model, [{"i1": 1e30}])


def test_an_item_without_label_counts_as_liked(model):
    assert tm.adapt(model, [["i1"]]) == tm.adapt(model, [{"i1": 5.0}])


def test_a_query_is_scored_without_support_since_its_history_has_no_labels(model):
    query = model.spec.encode_queries(["", ""], np.array([["i1"], [""]], object))
    found = model.score(query)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    (zero_shot,) = tm.adapt(model, [[]], k=1)
    assert zero_shot.items[0].score == pytest.approx(found.max(), rel=1e-5)
    assert list(model.predict_events(query, np.array([1, 2], np.int32))) == ["rating"]


def test_features_of_a_new_user_are_used(model):
    ages = {"age": [30.0, 80.0, None]}
    young, old, unsaid = tm.adapt(model, [[], [], []], k=30, features=ages)
    assert scores(young) != scores(old)
    assert unsaid == tm.adapt(model, [[]], k=30)[0]


def test_invalid_features_are_refused(model):
    with pytest.raises(ValueError, match="height"):
        tm.adapt(model, [[]], features={"height": [1.8]})
    with pytest.raises(ValueError, match="2 rows for 1 users"):
        tm.adapt(model, [[]], features={"age": [1.0, 2.0]})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("learner", "target"),
    [("ridge", "click"), ("ridge", "interaction"), ("anil", "click"), ("reptile", "interaction")],
)
def test_each_learner_and_target_adapts_and_reloads(learner, target, tmp_path):
    model = trained(dataclasses.replace(SMALL, learner=learner, target=target))
    assert model.targets == (() if target == "interaction" else (target,))
    tm.save(model, tmp_path / "model")
    again = tm.load(tmp_path / "model")
    first, second = (tm.adapt(one, [{"i1": 1.0, "i2": 0.0}], k=5) for one in (model, again))
    assert first == second
    assert np.isfinite([item.score for item in first[0].items]).all()


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["maml", "meta_sgd", "ridge"])
def test_exported_inner_steps_equal_the_eager_ones(learner, tmp_path):
    model = trained(dataclasses.replace(SMALL, learner=learner, inner_steps=3))
    config = tm.ExportConfig(history_width=4, k=4, max_k=22, support_width=WIDTH)
    served = tf.saved_model.load(str(tm.export(model, tmp_path / "m", config)))
    support = [{"i1": 5.0, "i2": 1.0, "never seen": 3.0}, {}, {"i7": 2.0}]
    rows = [[*given, *[""] * (WIDTH - len(given))] for given in support]
    labels = [[*given.values(), *[1.0] * (WIDTH - len(given))] for given in support]
    answer = served.signatures[names.ADAPT](
        item_id=tf.constant(rows),
        label=tf.constant(labels, tf.float32),
        k=tf.fill([3], 22),
        exclude=tf.fill([3, config.exclude_width], ""),
        age=tf.constant([25.0, float("nan"), 60.0]),
    )
    expected = tm.adapt(model, support, k=22, features={"age": [25.0, None, 60.0]})
    for row, eager in enumerate(expected):
        ids = [item.decode() for item in answer["item_id"][row].numpy() if item]
        found = dict(zip(ids, answer["score"][row].numpy(), strict=False))
        assert found == pytest.approx(scores(eager), rel=1e-5, abs=1e-5)
    assert list(answer["support_used"].numpy()) == [2, 0, 1]


def test_item_statistics_of_a_fold_exclude_its_users():
    data = tm.Interactions.from_arrays(
        ["a", "b", "c"], ["x", "x", "y"], value=[1.0, 3.0, 5.0], time=[0, 1, 2]
    )
    model = MetaRanker(dataclasses.replace(SMALL, folds=2), tm.FeatureSpec().fit(data))
    model.fit(data)
    found = model.fields.statistics.numpy()
    x, y = model.spec.items.encode(["x", "y"])
    fold_of_a = model.folds(model.spec.users.encode(["a"]))[0]
    # The mean value is 3; five events with it are added to each item. The variance is 8/3.
    spread = (8 / 3) ** 0.5
    np.testing.assert_allclose(found[0, [x, y], 0] * spread, [-2 / 7, 2 / 6], rtol=1e-6)
    np.testing.assert_allclose(found[0, [x, y], 1], [np.log(3) / 5, np.log(2) / 5], rtol=1e-6)
    # c is in the fold of a: without both, b's 3 is left.
    np.testing.assert_allclose(found[fold_of_a, [x, y], 0], [0.0, 0.0], atol=1e-7)
    np.testing.assert_allclose(found[fold_of_a, [x, y], 1], [np.log(2) / 5, 0.0], rtol=1e-6)


def test_with_too_few_events_the_usual_label_is_predicted():
    data = tm.Interactions.from_arrays(["a", "b"], ["x", "y"], value=[1.0, 3.0], time=[0, 1])
    config = dataclasses.replace(SMALL, shots=(1, 3))
    model = tm.train(data, tm.Strategy("meta_ranker", config), progress=False)
    (answer,) = tm.adapt(model, [[]])
    assert np.isfinite([item.score for item in answer.items]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "fame"}, "`target`='fame'"),
        ({"learner": "magic"}, "`learner`='magic'"),
        ({"order": "none"}, "`order`='none'"),
        ({"embedding_dim": 0}, "`embedding_dim`=0"),
        ({"steps": -1}, "`steps`=-1"),
        ({"learning_rate": 0.0}, "`learning_rate`=0.0"),
        ({"folds": 1}, "`folds`=1"),
        ({"shots": (3, 2)}, r"`shots`=\(3, 2\)"),
        ({"hidden": (0,)}, r"`hidden`=\(0,\)"),
        ({"inner_rate": 0.0}, "`inner_rate`=0.0"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)
