"""Several teachers as one."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.distillation import MeanTeacher

SPEC = tm.FeatureSpec().fit(tm.Interactions.from_arrays(["u"], ["i"]))


class Teacher:
    def __init__(self, scores, vectors=None, spec=SPEC):
        self._scores, self._vectors, self.spec = scores, vectors, spec
        self.has_embeddings = vectors is not None

    def logits_or_prior(self, query):
        return tf.constant(self._scores, tf.float32)

    def item_embeddings(self):
        return tf.constant(self._vectors, tf.float32)

    def state(self):
        return {"scores": np.array(self._scores)}


def test_scores_of_teachers_are_standardised_and_weighted():
    one, other = [[1.0, 2.0, 6.0]], [[300.0, 200.0, 100.0]]
    found = MeanTeacher([Teacher(one), Teacher(other)], weights=[3, 1]).logits_or_prior({})
    expected = 0.75 * scipy.stats.zscore(one[0]) + 0.25 * scipy.stats.zscore(other[0])
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_embeddings_of_teachers_that_have_any_are_concatenated():
    teachers = [
        Teacher([[1.0]], vectors=[[3.0, 4.0]]),
        Teacher([[1.0]]),
        Teacher([[1.0]], vectors=[[0.0, 0.0, 2.0]]),
    ]
    teacher = MeanTeacher(teachers, weights=[1, 1, 2])
    expected = [[0.25 * 0.6, 0.25 * 0.8, 0, 0, 0.5]]
    np.testing.assert_allclose(teacher.item_embeddings(), expected, rtol=1e-6)
    assert teacher.has_embeddings
    assert not MeanTeacher([Teacher([[1.0]])]).has_embeddings


def test_state_has_the_states_of_all_teachers():
    state = MeanTeacher([Teacher([[1.0]]), Teacher([[2.0]])]).state()
    assert {name: value.tolist() for name, value in state.items()} == {
        "weights": [0.5, 0.5],
        "0/scores": [[1.0]],
        "1/scores": [[2.0]],
    }


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_mismatched_weights_are_refused(weights):
    with pytest.raises(ValueError, match="use one above 0 for each"):
        MeanTeacher([Teacher([[1.0]]), Teacher([[1.0]])], weights)


def test_no_teachers_and_other_catalogues_are_refused():
    with pytest.raises(ValueError, match="`teachers` is empty"):
        MeanTeacher([])
    other = tm.FeatureSpec(history_length=3).fit(tm.Interactions.from_arrays(["u"], ["i"]))
    with pytest.raises(ValueError, match="different users, items"):
        MeanTeacher([Teacher([[1.0]]), Teacher([[1.0]], spec=other)])
