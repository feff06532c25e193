"""The distillation loss of a student."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.models.losses.teacher_loss import TeacherLoss, TeacherLossConfig

DRAW = tf.zeros([2], tf.int64)


SPEC = tm.FeatureSpec().fit(tm.Interactions.from_arrays(["u"], ["i"]))


class Teacher:
    spec = SPEC
    has_embeddings = True

    def __init__(self, vectors=None, scores=None):
        self._vectors, self._scores = vectors, scores

    def logits_or_prior(self, query):
        return tf.constant(self._scores, tf.float32)

    def item_embeddings(self):
        return tf.constant(self._vectors, tf.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_scores": "shouts"}, "`teacher_scores`='shouts'; use one of"),
        ({"teacher_vectors": "dance"}, "`teacher_vectors`='dance'; use one of"),
        ({"teacher_top": 0}, "`teacher_top`=0; use 1"),
        ({"teacher_vectors_weight": -1.0}, "`teacher_vectors_weight`=-1.0; use 0"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TeacherLossConfig(**options)


def test_scores_are_standardised_and_divided_by_the_temperature():
    teacher_loss = TeacherLoss(
        Teacher(scores=[[1.0, 2.0, 6.0]]), SPEC, TeacherLossConfig(teacher_temperature=2), 4
    )
    np.testing.assert_allclose(
        teacher_loss.scores({}), [scipy.stats.zscore([1.0, 2.0, 6.0]) / 2], rtol=1e-5
    )


def test_without_a_comparison_of_vectors_their_loss_is_0():
    teacher_loss = TeacherLoss(Teacher(), SPEC, TeacherLossConfig(), 4)
    assert teacher_loss.of_vectors(None, DRAW).numpy() == 0
    assert not teacher_loss.weights


@pytest.mark.parametrize("kind", ["cosine", "squared"])
def test_vectors_of_another_width_are_compared_through_a_projection(kind):
    vectors = np.random.default_rng(0).normal(size=(6, 5))
    teacher_loss = TeacherLoss(Teacher(vectors), SPEC, TeacherLossConfig(teacher_vectors=kind), 3)
    assert teacher_loss.projection.shape == (3, 5)
    projection = np.random.default_rng(1).normal(size=(3, 5))
    teacher_loss.projection.assign(projection)
    own = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32)  # the last is a bias
    told = own[1:, :3] @ projection
    if kind == "squared":
        expected = ((told - vectors) ** 2).mean()
    else:
        lengths = np.linalg.norm(told, axis=1) * np.linalg.norm(vectors, axis=1)
        expected = 1 - ((told * vectors).sum(axis=1) / lengths).mean()
    found = teacher_loss.of_vectors(lambda rows: tf.gather(own, rows), DRAW)
    assert found.numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["relational", "value_relations"])
def test_relations_of_a_scaled_copy_of_the_teacher_have_no_loss(kind):
    vectors = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    teacher_loss = TeacherLoss(Teacher(vectors), SPEC, TeacherLossConfig(teacher_vectors=kind), 5)
    own = np.concatenate([vectors, np.ones((6, 1), np.float32)], axis=1)
    found = teacher_loss.of_vectors(lambda rows: tf.gather(own, rows - 1), DRAW)
    assert found.numpy() == pytest.approx(0, abs=1e-6)
    other = np.random.default_rng(1).normal(size=(6, 6)).astype(np.float32)
    assert teacher_loss.of_vectors(lambda rows: tf.gather(other, rows - 1), DRAW).numpy() > 0.01


def test_a_large_catalogue_is_sampled_anew_in_each_step():
    vectors = np.eye(2000, 4, dtype=np.float32)
    teacher_loss = TeacherLoss(
        Teacher(vectors), SPEC, TeacherLossConfig(teacher_vectors="squared"), 4
    )
    asked = []

    def embed_items(rows):
        asked.append(rows.numpy())
        return tf.zeros([len(rows), 5])

    for step in range(2):
        teacher_loss.of_vectors(embed_items, tf.constant([0, step], tf.int64))
    assert len(set(asked[0])) == len(set(asked[1])) == 512
    assert set(asked[0]) != set(asked[1])
    assert min(map(min, asked)) >= 1
    assert max(map(max, asked)) <= 2000


def test_a_teacher_of_other_items_or_without_vectors_is_refused():
    with pytest.raises(ValueError, match=r"features=teacher\.spec"):
        TeacherLoss(Teacher(), tm.FeatureSpec(history_length=3), TeacherLossConfig(), 4)
    teacher = Teacher()
    teacher.has_embeddings = False
    with pytest.raises(ValueError, match="`teacher_vectors`='cosine', but this teacher has no"):
        TeacherLoss(teacher, SPEC, TeacherLossConfig(teacher_vectors="cosine"), 4)
