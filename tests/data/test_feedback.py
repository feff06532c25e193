"""Declared feedback: weights, positive events and the target, from types and values."""

import numpy as np
import pytest

import tfrec_meta as tm
from tfrec_meta.data import user_histories
from tfrec_meta.errors import ParameterError

TYPES = ["view", "cart", "purchase", "view", "purchase"]
KIND = {"event_type": "event_type"}
VALUES = [1.0, 2.0, 4.0, 5.0, 3.0]


def log(types=TYPES, values=VALUES, **further):
    users, items = ["a", "a", "a", "b", "b"], ["x", "y", "z", "x", "y"]
    return tm.Interactions.from_arrays(
        users, items, range(5), values, further={"event_type": types, **further}
    )


def weights(feedback, data=None):
    return (log() if data is None else data).with_feedback(feedback).weights.tolist()


def test_weights_come_from_types_from_a_column_or_from_both():
    by_type = {"view": 1, "cart": 3, "purchase": 10}
    assert weights(tm.Feedback(event_weights=by_type)) == [1, 3, 10, 1, 10]
    assert weights(tm.Feedback(weight="value")) == VALUES
    both = tm.Feedback(event_weights=by_type, weight="value")
    assert weights(both) == [1, 6, 40, 5, 30]
    assert weights(tm.Feedback()) == [1, 1, 1, 1, 1]


def test_events_that_are_not_positive_are_ignored_or_known_negatives():
    assert weights(tm.Feedback(positive=3)) == [0, 0, 1, 1, 1]
    assert weights(tm.Feedback(positive=3, below="negative", weight="value")) == [-1, -1, 4, 5, 3]
    chosen = tm.Feedback(positive=["purchase"], event_weights={"purchase": 2, "view": 5})
    assert weights(chosen) == [0, 0, 2, 0, 2]
    disliked = tm.Feedback(
        positive=["purchase"], event_weights={"purchase": 2, "view": 5}, below="negative"
    )
    assert weights(disliked) == [-5, -1, 2, -5, 2]


def test_a_threshold_is_compared_in_the_precision_of_the_column():
    data = log(values=[0.1, 0.2, 0.3, 0.4, 0.5])
    assert weights(tm.Feedback(positive=0.1), data) == [1, 1, 1, 1, 1]


def test_a_weight_of_0_is_no_error_below_the_threshold():
    data = log(values=[0.0, -1.0, 2.0, 3.0, 4.0])
    assert weights(tm.Feedback(weight="value", positive=1), data) == [0, 0, 2, 3, 4]


def test_the_target_is_a_mask_of_events():
    data = log().with_feedback(tm.Feedback(target=["purchase"]))
    assert data.is_target.tolist() == [False, False, True, False, True]
    assert data.seen_events().events["item_id"].to_pylist() == ["z", "y"]
    assert log().is_target is None
    assert log().weights is None


def test_blanks_around_event_types_do_not_matter():
    data = log(types=["view ", " cart", "purchase", "view", "purchase"])
    assert weights(tm.Feedback(event_weights={"view": 1, "cart ": 3, "purchase": 9}), data)[1] == 3


def test_a_column_named_weight_has_no_effect_until_it_is_declared():
    data = log(weight=[5.0, 1.0, 2.0, 1.0, 1.0])
    assert data.weights is None
    assert weights(tm.Feedback(weight="weight"), data) == [5, 1, 2, 1, 1]
    with pytest.raises(ParameterError, match="column `weight` of its own"):
        data.with_feedback(tm.Feedback(positive=3))


def test_feedback_stays_with_parts_copies_and_files(tmp_path):
    feedback = tm.Feedback(event_weights={"view": 1, "cart": 3, "purchase": 10}, target=["cart"])
    data = log().with_feedback(feedback)
    assert data.with_feedback(feedback) is data
    with pytest.raises(ValueError, match="another feedback"):
        data.with_feedback(tm.Feedback())
    assert data.take([2, 0]).weights.tolist() == [10, 1]
    assert data.origin is data.take([0]).origin
    data.write(tmp_path / "data")
    again = tm.Interactions.read(tmp_path / "data")
    assert again.equals(data)
    assert again.feedback == feedback
    assert data.digest() != log().digest() != ""
    assert log().digest() == log(types=["x"] * 5).digest()


def test_events_of_two_types_at_the_same_time_are_no_duplicates():
    data = tm.Interactions.from_arrays(
        ["a"] * 3, ["x"] * 3, [7] * 3, further={"event_type": ["view", "purchase", "view"]}
    )
    assert len(data.clean()) == 1
    kept = data.with_feedback(tm.Feedback(target=["purchase"])).clean()
    assert kept.events["event_type"].to_pylist() == ["view", "purchase"]


def test_equal_weights_keep_which_events_are_positive():
    feedback = tm.Feedback(weight="value", positive=3, below="negative")
    equal = log().with_feedback(feedback).with_equal_weights()
    assert equal.weights.tolist() == [-1, -1, 1, 1, 1]
    assert not equal.weights_vary
    assert log().with_feedback(feedback).weights_vary


def test_histories_have_positive_events_only():
    data = log().with_feedback(tm.Feedback(positive=3))
    assert user_histories(data, ["a", "b"], 3).tolist() == [["z", "", ""], ["x", "y", ""]]


@pytest.mark.parametrize(
    ("fields", "message", "parameter"),
    [
        ({"event_weights": {"view": 0}}, "'view' the weight 0", "event_weights"),
        ({"event_weights": {"view": -1}}, "'view' the weight -1", "event_weights"),
        ({"event_weights": {"view": float("nan")}}, "the weight nan", "event_weights"),
        ({"event_weights": {"view": float("inf")}}, "the weight inf", "event_weights"),
        ({"event_weights": {"view": True}}, "the weight True", "event_weights"),
        ({"event_weights": {"view": "3"}}, "the weight '3'", "event_weights"),
        ({"event_weights": {"": 1}}, "the event type ''", "event_weights"),
        ({"event_weights": ["view"]}, "a weight for each event type", "event_weights"),
        ({"target": "purchase"}, r"use a list, as in \['purchase'\]", "target"),
        ({"target": []}, "a list of event types", "target"),
        ({"target": [3]}, "values that are each a text", "target"),
        ({"positive": "purchase"}, "use a finite number, or a list", "positive"),
        ({"positive": True}, "use a finite number, or a list", "positive"),
        ({"positive": float("nan")}, "use a finite number, or a list", "positive"),
        ({"below": "hide"}, "one of 'ignore', 'negative'", "below"),
        ({"below": "negative"}, "without `positive` all events are positive", "below"),
        ({"weight": ""}, "the name of a column", "weight"),
        ({"weight": 3}, "use a text", "weight"),
    ],
)
def test_values_that_are_not_valid_are_refused(fields, message, parameter):
    with pytest.raises(ParameterError, match=message) as error:
        tm.Feedback(**fields)
    assert error.value.parameter == parameter


@pytest.mark.parametrize(
    ("feedback", "values", "message"),
    [
        (tm.Feedback(weight="value"), [1, 2, 0, 4, -1], "row 3, column `value`: 0 is not a valid"),
        (tm.Feedback(weight="minutes"), VALUES, "has the columns user_id"),
        (tm.Feedback(weight="item_id"), VALUES, "is of type string"),
        (tm.Feedback(weight="rest"), VALUES, "row 2, column `rest`: the number is missing"),
        (tm.Feedback(event_type="kind", target=["cart"]), VALUES, "`event_type`='kind', but"),
        (
            tm.Feedback(target=["refund"]),
            VALUES,
            r"`target` names 'refund'.*It has 'purchase' \(2 events\), 'view' \(2 events\), 'cart'",
        ),
        (
            tm.Feedback(event_weights={"view": 1, "purchase": 10}),
            VALUES,
            r"no weight for 'cart' \(1 events\)",
        ),
        (tm.Feedback(event_weights={"wish": 1}), VALUES, "names 'wish'"),
        (tm.Feedback(positive=["wish"]), VALUES, "names 'wish'"),
    ],
)  # fmt: skip
def test_feedback_that_does_not_fit_the_data_says_where(feedback, values, message):
    data = log(values=values, rest=[1.0, None, 1.0, 1.0, 1.0])
    with pytest.raises(ParameterError, match=message):
        data.with_feedback(feedback)


@pytest.mark.parametrize("missing", [None, "", " "])
def test_a_missing_event_type_says_where(missing):
    data = log(types=["view", "cart", missing, "view", "cart"])
    with pytest.raises(ParameterError, match="row 3, column `event_type`: the event type is miss"):
        data.with_feedback(tm.Feedback(target=["cart"]))


def test_a_type_that_is_not_positive_needs_no_weight():
    assert weights(tm.Feedback(event_weights={"cart": 3}, positive=["cart"])) == [0, 3, 0, 0, 0]


def test_feedback_round_trips_through_plain_values():
    import json

    feedback = tm.Feedback("kind", {"view": 1, "buy": 3}, "minutes", ("buy",), "negative", ("buy",))
    assert tm.Feedback.from_dict(json.loads(json.dumps(feedback.as_dict()))) == feedback
    assert tm.Feedback.from_dict({"positive": 4}) == tm.Feedback(positive=4)
    with pytest.raises(ParameterError, match="Feedback has no weights; it has event_type"):
        tm.Feedback.from_dict({"weights": {}})


def test_streamed_events_have_the_weights_of_those_in_memory(tmp_path):
    lines = ["user_id,item_id,event_type,value"]
    rng = np.random.default_rng(0)
    for number in range(200):
        kind = ["view", "cart"][number % 2]
        lines.append(f"u{rng.integers(20)},i{rng.integers(9)},{kind},{rng.integers(1, 6)}")
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    feedback = tm.Feedback(event_weights={"view": 1, "cart": 3}, weight="value")
    whole = tm.read_interactions(tmp_path / "log.csv", KIND).with_feedback(feedback)
    streamed = tm.stream_interactions(tmp_path / "log.csv", KIND, part_events=40)
    streamed = streamed.with_feedback(feedback)
    parts = list(streamed.parts())
    assert len(parts) > 1
    assert sum(part.weights.sum() for part in parts) == whole.weights.sum()
    equal = [part.weights for part in streamed.with_equal_weights().parts()]
    assert set(np.concatenate(equal)) == {1.0}
    with pytest.raises(ParameterError, match="names 'wish'"):
        tm.stream_interactions(tmp_path / "log.csv", KIND).with_feedback(
            tm.Feedback(target=["wish"])
        )
