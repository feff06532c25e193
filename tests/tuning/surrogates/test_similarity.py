"""Weights of prior studies by the similarity of their data, worked by hand."""

import numpy as np
import pytest

from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate, PriorStudy
from tfrec_meta.tuning.surrogates.similarity import similarity_weights


def surrogate(*facts):
    """A surrogate of studies with these profiles and text embeddings."""
    studies = [PriorStudy(str(n), np.zeros((1, 1)), np.zeros(1), *f) for n, f in enumerate(facts)]
    return MetaSurrogate(studies, [])


def test_weights_are_equal_without_facts_about_the_data():
    assert similarity_weights(surrogate((None,), (None,))).tolist() == [0.5, 0.5]
    assert similarity_weights(surrogate(({"a": 1.0},), ({"a": 2.0},)), {}).tolist() == [0.5, 0.5]


def test_profile_weights_match_values_worked_by_hand():
    # Standardised, the profiles are -1 and 1, the only distance is 2, and the new one is at -1.
    found = similarity_weights(surrogate(({"a": 3.0},), ({"a": 5.0},)), {"a": 3.0})
    near = np.exp(-0.5 * np.array([0.0, 1.0]))
    np.testing.assert_allclose(found, near / near.sum(), atol=1e-6)


def test_text_weights_match_values_worked_by_hand():
    found = similarity_weights(
        surrogate((None, [0.0, 0.0]), (None, [2.0, 0.0]), (None, [0.0, 0.0, 1.0])),
        text_embedding=[0.0, 2.0],
    )
    # The width is 2. The third embedding has another size, so it gets the median.
    near = np.exp(-0.5 * np.array([1.0, 2.0]))
    expected = np.append(near, np.median(near))
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_unknown_fields_of_the_new_data_are_ignored(value):
    found = similarity_weights(
        surrogate(({"a": 3.0, "b": 0.0},), ({"a": 5.0, "b": 9.0},)), {"b": value}
    )
    assert found.tolist() == [0.5, 0.5]


def test_a_single_profile_gives_equal_weights():
    assert similarity_weights(surrogate(({"a": 3.0},), (None,)), {"a": 3.0}).tolist() == [0.5, 0.5]


def test_no_study_has_weight_zero():
    found = similarity_weights(surrogate(({"a": 0.0},), ({"a": 1e-9},), ({"a": 1e9},)), {"a": 0.0})
    assert found.min() > 0
    assert found.sum() == pytest.approx(1)
