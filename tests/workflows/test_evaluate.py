import numpy as np
import pytest

import tfrec_meta as tm
from tests.workflows.small_split import DATA, SPLIT


def test_evaluate_ranks_the_unseen_items_of_each_user(popularity):
    found = tm.evaluate(popularity, SPLIT, k=2, baselines=(), resamples=0)["popularity"]
    # Computed by hand. u has seen a: b is first; c and d share ranks 2 and 3, mean 2.5: no hit.
    # v has seen a and b: c and d share ranks 1 and 2, so the rank of c is 1.5.
    # The only test item of w is not in the catalogue: a miss.
    u, v = 1 / (1 + 1 / np.log2(3)), 1 / np.log2(2.5)
    assert found["ndcg@2"].value == pytest.approx((u + v + 0) / 3)
    assert found["recall@2"].value == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found.counts["outside"] == 1


def test_evaluate_adds_baselines_and_marks_one_of_the_models_family(popularity):
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


def test_baselines_use_the_whole_history_whatever_the_models_history_length():
    split = tm.split_by_item(tm.synthetic(users=30, items=20, interactions=300, seed=1))
    short = tm.train(split, tm.Strategy("popularity", history_length=1))
    baseline = tm.evaluate(short, split, baselines=["ease"], resamples=0)["ease"]
    ease = tm.evaluate(tm.train(split, "ease"), split, baselines=[], resamples=0)["ease"]
    np.testing.assert_allclose(baseline.per_query["ndcg@10"], ease.per_query["ndcg@10"])


def test_evaluate_predictions_refuses_a_model_that_ranks_items(popularity):
    with pytest.raises(ValueError, match="`model` is of family 'popularity'"):
        tm.evaluate_predictions(popularity, SPLIT)


class Predictor:
    """A model that predicts a rating of 3 for each event."""

    family, targets = "ranker", ("rating",)

    def __init__(self, spec):
        self.spec = spec

    def observed(self, target, value):
        return value

    def predict_events(self, queries, items):
        return {"rating": np.full(len(items), 3.0)}


def test_predictions_are_compared_with_the_mean_of_the_events_before_the_test_events(popularity):
    value = [1, 1, 1, 1, 1, 1, 8, 3, 3, 3, 5]  # the first 7 are the past; their mean is 2
    columns = [DATA.events[name] for name in ("user_id", "item_id", "time")]
    rated = tm.Interactions.from_arrays(*columns, value)
    split = tm.Split(rated, SPLIT.train_index, SPLIT.validation_index, SPLIT.test_index)
    found = tm.evaluate_predictions(Predictor(popularity.spec), split, resamples=20)
    assert found["rating"]["rmse"].value == 1.0  # errors 0, 0, 0 and 2
    baseline = found.baselines["rating"]
    assert baseline["mae"].value == (1 + 1 + 1 + 3) / 4
    assert baseline["rmse"].value == pytest.approx(3**0.5)
    assert baseline["mae"].low <= 1.5 <= baseline["mae"].high
