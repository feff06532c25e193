"""The rules of the ranking gate, on models of known quality."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tests.pipeline import gate_toys
from tfrec_meta.data import Interactions
from tfrec_meta.evaluation import full_catalogue
from tfrec_meta.features.held_out import held_out
from tfrec_meta.pipeline.config import EvaluatorConfig
from tfrec_meta.pipeline.gates import blessing_rules
from tfrec_meta.pipeline.gates.blessing_rules import evaluate_candidate
from tfrec_meta.pipeline.gates.verdict import Outcome, Reference, SliceName

CONFIG = EvaluatorConfig(k=5, new_user_events=2)


@pytest.fixture(scope="module")
def split():
    return gate_toys.tastes_split()


@pytest.fixture(scope="module")
def saved(split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate") / "model"
    tm.save(gate_toys.trained(split), folder)
    return folder


@pytest.fixture(scope="module")
def model(saved):
    return tm.load(saved)


@pytest.fixture(scope="module")
def first_verdict(model, split):
    config = dataclasses.replace(CONFIG, slices=("taste",))
    return evaluate_candidate(model, None, split.past, split.test, config)


def check_of(
    verdict, slice_name=SliceName.ALL_USERS, metric="ndcg@5", against=Reference.POPULARITY
):
    (found,) = (
        check
        for check in verdict.checks
        if (check.slice, check.metric, check.against) == (slice_name, metric, against)
    )
    return found


def test_blesses_a_model_that_learned_the_tastes(first_verdict):
    assert first_verdict.blessed
    assert first_verdict.words.startswith("Blessed: NDCG@5 is 0.")
    assert "above popularity's (95 % interval of the difference +0." in first_verdict.words


def test_the_metrics_equal_those_of_evaluate(first_verdict, model, split):
    expected = tm.evaluate(model, split, k=5, baselines=["popularity"])
    for metric in ("ndcg@5", "recall@5"):
        check = check_of(first_verdict, metric=metric)
        assert check.model == pytest.approx(expected["ials"][metric].value)
        assert check.other == pytest.approx(expected["popularity"][metric].value)
        assert check.difference == pytest.approx(check.model - check.other)
        assert check.users == gate_toys.USERS


def test_compares_every_slice_with_popularity(first_verdict):
    slices = dict.fromkeys(check.slice for check in first_verdict.checks)
    tastes = [f"taste=t{n}" for n in range(4)]
    assert list(slices) == [*SliceName, *tastes]
    assert check_of(first_verdict, SliceName.NEW_USERS).users == 40
    assert [check_of(first_verdict, name).users for name in tastes] == [40] * 4


def test_values_of_a_column_share_the_error(first_verdict):
    assert check_of(first_verdict, "taste=t0").confidence == pytest.approx(1 - 0.05 / 4)
    assert check_of(first_verdict, SliceName.NEW_USERS).confidence == 0.95


def test_declared_feedback_counts_as_in_evaluate(split):
    """Values are 1 to 5 by item: items of value 1 are not positive, and weights count."""
    feedback = tm.Feedback(weight="value", positive=2)
    weighted = dataclasses.replace(split, data=split.data.with_feedback(feedback))
    model = gate_toys.trained(weighted)
    verdict = evaluate_candidate(model, None, weighted.past, weighted.test, CONFIG)
    expected = tm.evaluate(model, weighted, k=5, baselines=["popularity"], tune_baselines=False)
    for metric in ("ndcg@5", "recall@5"):
        check = check_of(verdict, metric=metric)
        assert check.model == pytest.approx(expected["ials"][metric].value)
        assert check.other == pytest.approx(expected["popularity"][metric].value)
        assert check.users == len(expected["ials"].queries) < gate_toys.USERS


def test_repeated_purchases_are_ranked_as_in_evaluate(model, split):
    """Some test events become events with an item of the user's past."""
    table = split.data.events
    items = table["item_id"].to_pylist()
    first = {}
    for row, user in enumerate(table["user_id"].to_pylist()):
        first.setdefault(user, items[row])
        if row in split.test_index and row % 2:
            items[row] = first[user]
    data = dataclasses.replace(split.data, events=table.set_column(1, "item_id", pa.array(items)))
    again = dataclasses.replace(split, data=data)
    verdict = evaluate_candidate(
        model, None, again.past, again.test, CONFIG, recommend_history=True
    )
    expected = tm.evaluate(
        model, again, k=5, baselines=["popularity"], tune_baselines=False, recommend_history=True
    )
    check = check_of(verdict)
    assert check.model == pytest.approx(expected["ials"]["ndcg@5"].value)
    assert check.other == pytest.approx(expected["popularity"]["ndcg@5"].value)


def test_refuses_a_degraded_model_compared_with_popularity_and_the_last_blessed_model(
    saved, model, split
):
    verdict = evaluate_candidate(gate_toys.degraded(saved), model, split.past, split.test, CONFIG)
    assert not verdict.blessed
    for against in (Reference.POPULARITY, Reference.LAST_BLESSED):
        check = check_of(verdict, against=against)
        assert check.outcome == Outcome.FAILED
    assert check.high < 0
    assert "below the last blessed model's (95 % interval" in check.words
    assert verdict.words.startswith("Not blessed: NDCG@5 is ")
    assert verdict.words.endswith(" more.")


def test_blesses_a_model_that_is_better_than_a_degraded_last_blessed_model(saved, model, split):
    verdict = evaluate_candidate(model, gate_toys.degraded(saved), split.past, split.test, CONFIG)
    assert verdict.blessed
    assert verdict.words.endswith("and nothing is significantly below the last blessed model's.")
    assert check_of(verdict, against=Reference.LAST_BLESSED).low > 0


def test_a_model_is_not_below_itself(model, split):
    verdict = evaluate_candidate(model, model, split.past, split.test, CONFIG)
    assert verdict.blessed
    assert check_of(verdict, against=Reference.LAST_BLESSED).words == (
        "NDCG@5 equals the last blessed model's for each of 160 users"
    )


def test_popularity_is_not_above_itself(split):
    same = tm.train(split.train, "popularity", progress=False)
    verdict = evaluate_candidate(same, None, split.past, split.test, CONFIG)
    assert not verdict.blessed
    assert check_of(verdict).outcome == Outcome.FAILED


def test_items_outside_an_older_vocabulary_count_as_misses(model, split):
    """The last blessed model knows half of the items; relevant others are misses."""
    known = np.array([int(i[1:]) < 24 for i in split.train.events["item_id"].to_pylist()])
    items = split.train.items.slice(0, 24)
    older = Interactions(split.train.take(np.flatnonzero(known)).events, split.train.users, items)
    baseline = tm.train(older, gate_toys.STRATEGY, progress=False)
    assert baseline.spec.catalogue_size == 24
    verdict = evaluate_candidate(model, baseline, split.past, split.test, CONFIG)
    check = check_of(verdict, metric="recall@5", against=Reference.LAST_BLESSED)
    assert check.users == gate_toys.USERS
    queries = held_out(baseline.spec, split.past, split.test)
    alone = full_catalogue(
        lambda rows: baseline.score({n: v[rows] for n, v in queries.queries.items()}),
        queries.relevant,
        queries.seen,
        k=5,
        metrics=["recall"],
        extra_relevant=queries.outside,
    )
    assert queries.outside.sum() > 100
    assert check.other == pytest.approx(alone["recall@5"].value)
    assert verdict.blessed


def test_evaluates_a_catalogue_that_is_shorter_than_the_list(model, split):
    config = dataclasses.replace(CONFIG, k=60)
    verdict = evaluate_candidate(model, None, split.past, split.test, config)
    check = check_of(verdict, metric="recall@60")
    assert check.model == 1.0  # every item is in the list
    assert check.other == 1.0
    assert not verdict.blessed


@pytest.mark.parametrize("setting, metric", [("min_ndcg", "ndcg@5"), ("min_recall", "recall@5")])
def test_applies_a_threshold(model, split, first_verdict, setting, metric):
    reached = check_of(first_verdict, metric=metric).model
    enough, too_much = (
        evaluate_candidate(
            model, None, split.past, split.test, dataclasses.replace(CONFIG, **{setting: least})
        )
        for least in (reached - 1e-6, reached + 1e-6)
    )
    assert enough.blessed
    assert not too_much.blessed
    assert f"below the threshold of {reached + 1e-6:g}" in too_much.words


@pytest.mark.parametrize(
    "auc, blessed, words",
    [
        (0.6, True, "AUC is 0.6000, not below the threshold of 0.6"),
        (0.59, False, "AUC is 0.5900, below the threshold of 0.6"),
        (float("nan"), False, "AUC can't be computed on these test events"),
    ],
)
def test_applies_the_threshold_of_the_auc(model, split, auc, blessed, words):
    config = dataclasses.replace(CONFIG, positive=4.0, min_auc=0.6)
    verdict = evaluate_candidate(model, None, split.past, split.test, config, auc)
    assert verdict.blessed == blessed
    assert words in check_of(verdict, metric="auc", against=Reference.THRESHOLD).words


def test_refuses_without_test_events(model, split):
    verdict = evaluate_candidate(
        model, None, split.past, split.test.take(np.array([], np.int64)), CONFIG
    )
    assert verdict.words == ("Not blessed: there are no test events. Check the split.")


def test_refuses_a_model_with_nan_scores(saved, split):
    broken = tm.load(saved)
    broken.item_factors[3].assign(np.full(broken.item_factors.shape[1], np.nan))
    verdict = evaluate_candidate(broken, None, split.past, split.test, CONFIG)
    assert not verdict.blessed
    assert "its scores can't be ranked" in verdict.words


def test_refuses_slices_by_an_unknown_column(model, split):
    config = dataclasses.replace(CONFIG, slices=("tsate",))
    with pytest.raises(
        ValueError, match=r"`slices`='tsate' is not a column.*use one of user_id, taste, age"
    ):
        evaluate_candidate(model, None, split.past, split.test, config)


def test_leaves_out_values_with_too_few_users_and_counts_them(model, split):
    config = dataclasses.replace(CONFIG, slices=("age", "value"))
    verdict = evaluate_candidate(model, None, split.past, split.test, config)
    assert not [check for check in verdict.checks if check.slice.startswith("age")]
    assert "160 values of age have fewer than 6 test users" in verdict.notes[0]


def test_users_without_history_do_not_count_on_a_slice(model, split):
    """The model ranks by popularity for ten users without history: they show no difference."""
    unknown = Interactions.from_arrays(
        [f"x{n}" for n in range(10)], ["i0"] * 10, [9_999_999] * 10, [1.0] * 10
    )

    events = pa.concat_tables(
        [split.test.events, unknown.events.select(split.test.events.column_names)]
    )
    test = Interactions(events, split.test.users, split.test.items)
    verdict = evaluate_candidate(model, model, split.past, test, CONFIG)
    assert check_of(verdict).users == gate_toys.USERS + 10
    assert check_of(verdict, SliceName.NEW_USERS).users == 40
    assert check_of(verdict, SliceName.NEW_USERS, against=Reference.LAST_BLESSED).users == 50
    assert verdict.notes[0].startswith("10 of the 170 test users have no history")


def difference(mean, low, high, is_tie=False, enough=True):
    return blessing_rules._Difference(mean, low, high, is_tie, enough)


@pytest.mark.parametrize(
    "found, outcome",
    [
        (difference(0.02, 0.01, 0.03), Outcome.PASSED),
        (difference(-0.02, -0.03, -0.01), Outcome.FAILED),
        (difference(0.01, -0.02, 0.04), Outcome.INCONCLUSIVE),
        (difference(-0.01, -0.02, 0.01), Outcome.FAILED),  # a gain of 0.05 would be detected
        (difference(-0.01, -0.07, 0.05), Outcome.INCONCLUSIVE),  # here it would not
        (difference(0.0, 0.0, 0.0, is_tie=True), Outcome.INCONCLUSIVE),
        (difference(-0.02, -0.03, -0.01, enough=False), Outcome.INCONCLUSIVE),
    ],
)
def test_on_a_slice_an_inconclusive_result_does_not_block(found, outcome):
    assert blessing_rules._above_on_a_slice(0.05)(found) == outcome


@pytest.mark.parametrize(
    "found, outcome",
    [
        (difference(0.02, 0.01, 0.03), Outcome.PASSED),
        (difference(0.02, 0.0, 0.04), Outcome.FAILED),
        (difference(0.02, 0.01, 0.03, enough=False), Outcome.FAILED),
    ],
)
def test_over_all_users_the_gain_must_be_significant(found, outcome):
    assert blessing_rules._above_for_all_users(found) == outcome


@pytest.mark.parametrize(
    "found, outcome",
    [
        (difference(-0.02, -0.04, 0.0), Outcome.PASSED),
        (difference(-0.02, -0.04, -0.001), Outcome.FAILED),
        (difference(-0.02, -0.03, -0.01, enough=False), Outcome.INCONCLUSIVE),
    ],
)
def test_only_a_significant_loss_to_the_last_blessed_model_fails(found, outcome):
    assert blessing_rules._not_below(found) == outcome
