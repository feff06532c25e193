"""The settings of baselines are chosen on validation events."""

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.evaluation import ChosenOn
from tfrec_meta.models import EASEConfig, ItemKNNConfig
from tfrec_meta.workflows import tuned_baselines
from tfrec_meta.workflows.tuned_baselines import BaselineTuner, inner_split

DATA = tm.synthetic(users=60, items=30, interactions=900, seed=1)
KNN = [ItemKNNConfig(), ItemKNNConfig(2, "cosine"), ItemKNNConfig(10, "cosine", shrinkage=5.0)]
EASE = [EASEConfig(), EASEConfig(1.0), EASEConfig(30.0)]


@pytest.fixture(autouse=True)
def small_grids(monkeypatch):
    monkeypatch.setattr(tuned_baselines, "BASELINE_CONFIGS", {"item_knn": KNN, "ease": EASE})


def tuner(split, **options):
    return BaselineTuner(split, tm.FeatureSpec.infer(split.train).fit(split.train), **options)


def values(split, family, configs, k=10):
    """Returns what models of the family, trained on the train part, reach on validation."""
    given = tm.Split(split.data, split.train_index, np.arange(0), split.validation_index)
    return [
        tm.evaluate(
            tm.train(split.train, tm.Strategy(family, config), progress=False),
            given,
            baselines=(),
            k=k,
            resamples=0,
        )[family][f"ndcg@{k}"].value
        for config in configs
    ]


@pytest.mark.parametrize(("family", "configs"), [("item_knn", KNN), ("ease", EASE)])
def test_the_config_with_the_best_validation_result_is_chosen(family, configs):
    split = tm.split_by_time(DATA)
    model, settings = tuner(split).fit(family)
    assert model.config == configs[int(np.argmax(values(split, family, configs)))]
    assert settings.tried == 3
    assert settings.chosen_on is ChosenOn.VALIDATION
    assert settings.config["neighbours" if family == "item_knn" else "l2"]


def test_the_chosen_config_is_fitted_on_train_and_validation():
    split = tm.split_by_time(DATA)
    model, _ = tuner(split).fit("ease")
    expected = tm.train(
        split.past, tm.Strategy("ease", model.config), features=model.spec, progress=False
    )
    np.testing.assert_allclose(model.weights.numpy(), expected.weights.numpy(), atol=1e-6)


def test_test_events_have_no_influence_on_the_choice():
    split = tm.split_by_time(DATA)
    other = tm.Split(
        split.data, split.train_index, split.validation_index, split.test_index[:3], "time"
    )
    for family in ("item_knn", "ease"):
        assert tuner(split).fit(family)[1] == tuner(other).fit(family)[1]


@pytest.mark.parametrize(
    ("split", "held_out"),
    [
        (tm.split_by_item(DATA), 0.1),
        (tm.split_by_user(DATA), 0.1),
        (tm.split_by_time(DATA, validation=0), 0.1),
        (tm.split_leave_last_out(DATA, validation=False), None),
        (tm.split_cold_users(DATA), 0.1),
        (tm.split_cold_items(DATA), 0.1),
        (tm.Split(DATA, np.arange(700), np.arange(0), np.arange(700, 900)), None),
    ],
    ids=lambda value: getattr(value, "protocol", value),
)
def test_without_validation_the_protocol_is_repeated_inside_of_the_train_part(split, held_out):
    inner = inner_split(split)
    if split.protocol != "given":
        assert inner.protocol is split.protocol
    assert inner.data.equals(split.train)
    assert len(inner.train_index) + len(inner.test_index) == len(split.train)
    if held_out is None:  # the last event of each user
        assert len(inner.test_index) == len(split.train.user_ids)
    else:
        assert len(inner.test_index) / len(split.train) == pytest.approx(held_out, rel=0.5)
    _, settings = tuner(split).fit("ease")
    assert settings.chosen_on is ChosenOn.TRAIN


def test_weights_of_events_are_used_only_if_that_is_better_on_validation():
    # Each event has a user of its own, so only popularity counts. A third of the events buys one
    # item. With a weight of 50, the views of other items would hide it.
    count = len(DATA)
    users, items = (DATA.events[n].to_pylist() for n in ("user_id", "item_id"))
    for weight, expected in ((50.0, False), (0.02, True)):
        bought = [place % 3 == 0 for place in range(count)]
        named = ["bought" if b else item for b, item in zip(bought, items, strict=True)]
        data = tm.Interactions.from_arrays(
            [f"{user}-{place}" for place, user in enumerate(users)],
            named,
            list(range(count)),
            further={"event_type": ["buy" if b else "view" for b in bought]},
        )
        data = data.with_feedback(tm.Feedback(event_weights={"buy": 1.0, "view": weight}))
        _, settings = tuner(tm.split_by_time(data)).fit("popularity")
        assert settings.tried == 2
        assert settings.config["use_weights"] is expected


def test_tuning_can_be_switched_off():
    split = tm.split_by_time(DATA)
    model, settings = tuner(split, tune=False).fit("item_knn")
    assert model.config == ItemKNNConfig()
    assert (settings.tried, settings.chosen_on) == (1, ChosenOn.NOTHING)
    found = tm.evaluate(model, split, baselines=["ease"], tune_baselines=False, resamples=0)
    assert str(found.settings["ease"]) == "default settings"


def test_large_data_are_compared_on_fewer_settings(monkeypatch):
    split = tm.split_by_time(DATA)
    monkeypatch.setattr(tuned_baselines, "_MOST_EVENTS", 2 * len(split.train))
    assert tuner(split).fit("item_knn")[1].tried == 2
    monkeypatch.setattr(tuned_baselines, "_MOST_EVENTS", 2 * len(split.train) - 1)
    assert tuner(split).fit("item_knn")[1].chosen_on is ChosenOn.NOTHING
    monkeypatch.setattr(tuned_baselines, "_MOST_EVENTS", 10**9)
    monkeypatch.setattr(tuned_baselines, "_MOST_CUBES", 2 * 30**3)
    assert tuner(split).fit("ease")[1].tried == 2


def test_data_too_small_to_hold_out_events_have_default_settings():
    data = tm.Interactions.from_arrays(["u", "v"], ["a", "b"], [1, 2])
    split = tm.Split(data, np.array([0]), np.arange(0), np.array([1]), "time")
    _, settings = tuner(split).fit("ease")
    assert settings.chosen_on is ChosenOn.NOTHING


def test_the_choice_is_reproducible():
    split = tm.split_by_item(DATA, seed=3)
    first, second = (
        tm.evaluate(
            tm.train(split, "popularity", progress=False), split, baselines=["ease", "item_knn"]
        ).as_dict()
        for _ in range(2)
    )
    assert first == second
