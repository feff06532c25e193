"""Declared feedback in training, evaluation, recommendation and search."""

import logging

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.tuning import StrategySpace


@pytest.fixture
def ratings():
    return tm.synthetic(users=30, items=20, interactions=200, seed=1)


def purchases_and_views(users=40, seed=0):
    """Each user views 8 items and then buys 4 of them, with times."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        viewed = rng.permutation(15)[:8]
        rows += [(f"u{user}", f"i{item}", time, "view") for time, item in enumerate(viewed)]
        rows += [(f"u{user}", f"i{item}", 9 + n, "buy") for n, item in enumerate(viewed[:4])]
    who, what, when, kinds = (list(column) for column in zip(*rows, strict=True))
    return tm.Interactions.from_arrays(who, what, when, further={"event_type": kinds})


@pytest.mark.slow
def test_unused_values_are_mentioned_once_per_data_set(ratings, caplog):
    def mentions():
        return [record.getMessage() for record in caplog.records if "`value`" in record.message]

    with caplog.at_level(logging.WARNING, "tfrec_meta"):
        split = tm.split_by_user(ratings, seed=1)
        model = tm.train(split, "ease", progress=False)
        tm.train(split.past, "popularity", progress=False)
        tm.evaluate(model, split, resamples=0)
        assert len(mentions()) == 1
        assert "Feedback(weight='value')" in mentions()[0]
        tm.train(tm.synthetic(users=30, items=20, interactions=200, seed=1), "ease", progress=False)
        assert len(mentions()) == 2


def test_values_that_are_used_declared_or_equal_are_not_mentioned(ratings, caplog):
    recipe = tm.TrainingConfig(epochs=1, batch_size=64)
    ranker = tm.Strategy("ranker", tm.RankerConfig(target="rating", embedding_dim=4), recipe)
    with caplog.at_level(logging.WARNING, "tfrec_meta"):
        tm.train(ratings, ranker, progress=False)
        tm.train(ratings.with_feedback(tm.Feedback(positive=3)), "ease", progress=False)
        tm.train(tm.Interactions.from_arrays(["a", "b"], ["x", "y"]), "popularity", progress=False)
    assert not [record for record in caplog.records if "`value`" in record.getMessage()]


def test_training_without_positive_events_is_an_error(ratings):
    with pytest.raises(ValueError, match="No training event is positive"):
        tm.train(ratings.with_feedback(tm.Feedback(positive=99)), "ease", progress=False)


@pytest.mark.slow
def test_evaluation_is_about_purchases_that_were_not_bought_before():
    data = purchases_and_views().with_feedback(
        tm.Feedback(event_weights={"view": 1, "buy": 5}, target=["buy"])
    )
    split = tm.split_leave_last_out(data)
    model = tm.train(split, "ease", progress=False)
    found = tm.evaluate(model, split, k=5, resamples=0)
    counts = found["ease"].counts
    # Every bought item was viewed before; it is no miss, since only purchases count as seen.
    assert (counts["queries"], counts["relevant"], counts["seen"]) == (40, 40, 0)
    assert found["ease"]["ndcg@5"].value > 0
    assert len(found) == 5
    # The last purchases of u0 are held out, so its first three are seen, and viewed items are not.
    bought = set(data.take(np.flatnonzero(data.is_target)).events["item_id"].to_pylist()[:3])
    offered = {item.item_id for item in tm.recommend(model, ["u0"], split.past, k=20)[0]}
    assert len(offered) == 12
    assert not offered & bought


def test_known_negatives_and_ignored_events_are_seen_and_not_relevant(ratings):
    for below in ("ignore", "negative"):
        data = ratings.with_feedback(tm.Feedback(positive=4, below=below))
        split = tm.split_by_user(data, train=0.7, seed=1)
        model = tm.train(split, "item_knn", progress=False)
        found = tm.evaluate(model, split, k=5, baselines=["popularity"], resamples=0)
        relevant = int((split.test.weights > 0).sum())
        assert 0 < found["item_knn"].counts["relevant"] == relevant < len(split.test)
        user = split.train.user_ids[0]
        past = split.train.take(split.train.user_codes == 0)
        offered = {item.item_id for item in tm.recommend(model, [user], split.train, k=20)[0]}
        assert not offered & set(past.events["item_id"].to_pylist())


@pytest.mark.slow
def test_a_search_chooses_whether_to_use_weights():
    declared = purchases_and_views().with_feedback(
        tm.Feedback(event_weights={"view": 1, "buy": 5}, target=["buy"])
    )
    search = {
        "trials": 4,
        "strategy": tm.Strategy("ease"),
        "oracle": "random",
        "remember": False,
        "progress": False,
    }
    study = tm.tune(tm.split_leave_last_out(declared), **search)
    tried = [trial["values"]["use_weights"] for trial in study.trials]
    assert tried[0] is True
    best = max(study.trials, key=lambda trial: trial[study.objective])
    assert study.best_strategy.use_weights == best["values"]["use_weights"]
    plain = tm.tune(tm.split_leave_last_out(purchases_and_views()), **{**search, "trials": 1})
    assert "use_weights" not in plain.trials[0]["values"]


def test_a_space_with_weights_gives_strategies_with_and_without_them():
    space = StrategySpace(("ease",), weights=True)
    assert space.strategy_record({})["use_weights"] is True
    assert space.strategy_record({"use_weights": False})["use_weights"] is False
    assert "use_weights" not in StrategySpace(("ease",)).strategy_record({})


def test_use_weights_round_trips_and_stays_when_a_strategy_changes():
    strategy = tm.Strategy("ease", use_weights=False)
    assert tm.Strategy.from_dict(strategy.as_dict()) == strategy
    assert not strategy.with_changes({"family": "ials"}).use_weights
    assert tm.Strategy("ease").with_changes({"use_weights": False}) == strategy
    assert "use_weights" not in tm.Strategy("ease").as_dict()
    with pytest.raises(ValueError, match="`use_weights`=1; use True or False"):
        tm.Strategy("ease", use_weights=1)
