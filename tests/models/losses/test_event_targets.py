"""Labels and predictions of ratings and clicks, with values worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.models.losses import event_targets


def ratings(value):
    return tm.Interactions.from_arrays(
        ["u"] * len(value),
        [f"i{n}" for n in range(len(value))],
        value=value,
        time=np.arange(len(value)),
    )


class Parts:
    """Data in parts, as a stream has it."""

    def __init__(self, *parts):
        self._parts = [ratings(part) for part in parts]

    def parts(self):
        yield from self._parts


def test_the_scale_is_the_mean_and_the_standard_deviation():
    np.testing.assert_allclose(
        event_targets.rating_scale(ratings([1.0, 2.0, 3.0, 6.0])), [3.0, 3.5**0.5]
    )


def test_the_scale_of_a_stream_is_that_of_all_its_parts():
    parts = Parts([1.0, 2.0], [3.0], [6.0, 5.0, 1.0])
    whole = event_targets.rating_scale(ratings([1.0, 2.0, 3.0, 6.0, 5.0, 1.0]))
    np.testing.assert_allclose(event_targets.rating_scale(parts), whole, rtol=1e-6)


@pytest.mark.parametrize(("value", "spread"), [(0.0, 1.0), (5.0, 5.0), (-2e-7, 2e-7), (0.1, 0.1)])
def test_equal_ratings_have_their_size_as_spread(value, spread):
    found = event_targets.rating_scale(ratings([value] * 7))
    np.testing.assert_allclose(found, [value, spread], rtol=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(3.6e9, 0.0), (2e-8, 0.0), (-1.0, 7.0), (1.0, 1e4)])
def test_labels_do_not_depend_on_the_unit_and_predictions_are_in_it(factor, shift):
    value = np.array([1.0, 2.0, 3.0, 6.0], np.float32)
    other = (value * factor + shift).astype(np.float32)
    labels = []
    for one in (value, other):
        scale = event_targets.rating_scale(ratings(one))
        label = event_targets.labels_of("rating", tf.constant(one), 4.0, scale)
        back = event_targets.prediction_of("rating", label, tf.constant(scale))
        np.testing.assert_allclose(back, one, rtol=1e-5)
        labels.append(label.numpy())
    np.testing.assert_allclose(labels[1], np.sign(factor) * labels[0], atol=2e-3)


def test_a_click_is_a_value_of_the_threshold_or_more():
    label = event_targets.labels_of("click", tf.constant([3.9, 4.0, 9.0]), 4.0, [0.0, 1.0])
    np.testing.assert_array_equal(label, [0, 1, 1])
    found = event_targets.usual_logit("click", ratings([1.0, 4.0, 5.0]), 4.0)
    assert found == pytest.approx(np.log(3 / 2))
