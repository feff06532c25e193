"""Rolling evaluation: what each model learns from, and what it is evaluated on."""

import numpy as np
import pytest

import tfrec_meta as tm
from tests.workflows.small_split import SPLIT
from tfrec_meta.errors import ParameterError

# Ten events at times 0 to 9, of which the first six are before the first cut-off.
DATA = tm.Interactions.from_arrays(
    ["u", "v", "w", "v", "w", "x", "u", "x", "x", "v"],
    ["a", "a", "a", "b", "b", "c", "b", "b", "a", "c"],
    time=range(10),
    name="toy",
)


def rolling(data=DATA, **options):
    options = {"baselines": (), "resamples": 0, "progress": False, "k": 1, **options}
    return tm.rolling_evaluation(data, "popularity", **options)


def test_each_window_is_predicted_from_all_earlier_events():
    found = rolling(cuts=2)
    assert [(one.start, one.stop) for one in found.windows] == [(6, 8), (8, None)]
    assert [(one.train_events, one.test_events) for one in found.windows] == [(6, 2), (8, 2)]
    # By hand. Before 6: a 3, b 2, c 1. u has a: b is first, a hit. x has c: a is first, not b.
    # Before 8: a 3, b 4, c 1. x has b and c: a is left, a hit. v has a and b: c is left, a hit.
    values = [one.evaluations["popularity"]["recall@1"].value for one in found.windows]
    assert values == [0.5, 1.0]
    spread = found.summary["popularity"]["recall@1"]
    assert spread.mean == pytest.approx(0.75)
    assert spread.deviation == pytest.approx(0.125**0.5)


def test_given_cut_offs_are_used():
    found = rolling(cuts=[5, 9])
    assert [(one.train_events, one.test_events) for one in found.windows] == [(5, 4), (9, 1)]


def test_a_cut_off_gives_the_figures_of_the_same_split():
    window = rolling(cuts=[6], baselines=["ease"]).windows[0]
    split = tm.Split(
        DATA,
        np.arange(6),
        np.empty(0, np.int64),
        np.arange(6, 10),
        "time",
        details="cut-off 1970-01-01 00:00:06",
    )
    same = tm.evaluate(tm.train(split, "popularity"), split, k=1, baselines=["ease"], resamples=0)
    assert window.evaluations.as_dict() == same.as_dict()


def test_only_events_of_the_target_are_predicted():
    kinds = ["view", "buy"] * 5
    data = tm.Interactions.from_arrays(
        DATA.events["user_id"], DATA.events["item_id"], range(10), further={"event_type": kinds}
    ).with_feedback(tm.Feedback(event_weights={"view": 1, "buy": 3}, target=["buy"]))
    # The buys are at 1, 3, 5, 7 and 9. Views before a cut-off are learned from.
    found = rolling(data, cuts=2)
    assert [one.start for one in found.windows] == [7, 9]
    assert [(one.train_events, one.test_events) for one in found.windows] == [(7, 1), (9, 1)]


def test_wrong_arguments_are_refused_before_the_first_training():
    with pytest.raises(ParameterError, match="oracle"):
        rolling(baselines=["oracle"])
    with pytest.raises(ParameterError, match="`resamples`=-1"):
        rolling(resamples=-1)
    with pytest.raises(ParameterError, match=r"`cuts`=20: in the window .*no event, of 10 in all"):
        rolling(cuts=20)
    with pytest.raises(ValueError, match="toy has no times"):
        rolling(tm.Interactions.from_arrays(["a"], ["x"], name="toy"))
    with pytest.raises(TypeError, match="`data` is a Split; use Interactions"):
        rolling(SPLIT)
