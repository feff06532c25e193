"""Losses of distillation: values worked by hand or by SciPy."""

import numpy as np
import pytest
import scipy.spatial
import scipy.special
import tensorflow as tf

from tfrec_meta.models.losses import distillation_losses as losses
from tfrec_meta.models.losses.retrieval_losses import MASKED


def test_soft_labels_are_the_divergence_over_unmasked_candidates():
    logits = tf.constant([[1.0, 2.0, -1.0, MASKED]])
    teacher = np.array([0.5, 3.0, 1.0, 9.0])
    chance = scipy.special.softmax(teacher[:3])
    expected = scipy.special.rel_entr(chance, scipy.special.softmax([1.0, 2.0, -1.0])).sum()
    found = losses.soft_labels(logits, tf.constant(teacher[None, :], tf.float32)).numpy()
    assert found == pytest.approx([expected], rel=1e-5)
    assert losses.soft_labels(logits, logits + 7.0).numpy() == pytest.approx([0.0], abs=1e-6)


def test_top_items_are_weighted_by_their_rank():
    logits = np.log([[0.1, 0.2, 0.3, 0.4]])
    # The teacher's best two are items 3 and 0; exp(-1 / 2) and exp(-2 / 2), which add up to 1.
    weights = np.exp([-0.5, -1.0]) / np.exp([-0.5, -1.0]).sum()
    expected = -(weights * np.log([0.4, 0.1])).sum()
    teacher = tf.constant([[2.0, -1.0, 0.0, 3.0]])
    found = losses.top_items(tf.constant(logits, tf.float32), teacher, k=2)
    assert found.numpy() == pytest.approx([expected], rel=1e-5)


def test_a_masked_item_is_never_among_the_best():
    logits = tf.constant([[1.0, MASKED, 0.0]])
    found = losses.top_items(logits, tf.constant([[1.0, 9.0, 0.0]]), k=1)
    expected = -np.log(scipy.special.softmax([1.0, 0.0])[0])
    assert found.numpy() == pytest.approx([expected], rel=1e-5)


def test_k_above_the_number_of_candidates_takes_all_of_them():
    logits, teacher = tf.constant([[1.0, MASKED, 0.0]]), tf.constant([[0.0, 5.0, 1.0]])
    found = losses.top_items(logits, teacher, k=50).numpy()
    # With three candidates, k is 3. The third one is masked and does not count.
    weights = np.exp([-1 / 3, -2 / 3]) / np.exp([-1 / 3, -2 / 3]).sum()
    chances = np.log(scipy.special.softmax([1.0, 0.0]))
    assert found == pytest.approx([-(weights * chances[[1, 0]]).sum()], rel=1e-5)


def test_cosine_is_0_for_equal_1_for_orthogonal_and_2_for_opposite_directions():
    student = tf.constant([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]])
    teacher = tf.constant([[5.0, 0.0]] * 4)
    assert losses.cosine(student, teacher).numpy() == pytest.approx([0.0, 1.0, 2.0, 1.0])


def test_squared_is_the_mean_over_entries():
    found = losses.squared(tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 1.0]]))
    assert found.numpy() == pytest.approx([(4.0 + 1.0) / 2])


def test_distances_are_compared_relative_to_their_means():
    student = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    teacher = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    own, said = (scipy.spatial.distance.cdist(v, v) for v in (student, teacher))
    own, said = own / own[own > 0].mean(), said / said[said > 0].mean()
    expected = np.where(abs(own - said) < 1, (own - said) ** 2 / 2, abs(own - said) - 0.5).mean()
    found = losses.distances(tf.constant(student, tf.float32), tf.constant(teacher, tf.float32))
    assert found.numpy() == pytest.approx(expected, rel=1e-4)


def test_relations_are_invariant_to_scale_and_rotation():
    vectors = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0].astype(np.float32)
    other = 5.0 * vectors @ turn
    for loss in (losses.distances, losses.angles):
        assert loss(tf.constant(vectors), tf.constant(other)).numpy() == pytest.approx(0, abs=1e-6)


def test_angles_are_cosines_at_the_middle_of_three_vectors():
    student = tf.constant([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])  # a right angle at the second
    teacher = tf.constant([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])  # a straight one
    expected = 0.0
    own, said = (_cosines(v.numpy()) for v in (student, teacher))
    for i in np.ndindex(3, 3, 3):
        off = abs(own[i] - said[i])
        expected += off**2 / 2 if off < 1 else off - 0.5
    assert losses.angles(student, teacher).numpy() == pytest.approx(expected / 27, rel=1e-5)


def _cosines(vectors):
    found = np.zeros((3, 3, 3))
    for i, j, k in np.ndindex(3, 3, 3):
        one, other = vectors[i] - vectors[j], vectors[k] - vectors[j]
        length = np.linalg.norm(one) * np.linalg.norm(other)
        found[i, j, k] = one @ other / length if length else 0.0
    return found


def test_value_relations_are_the_divergence_of_the_softmax_of_scaled_products():
    student, teacher = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0, 1.0], [2.0, 0, 0]])
    own, said = (
        scipy.special.softmax(v @ v.T / np.sqrt(v.shape[1]), axis=1) for v in (student, teacher)
    )
    expected = scipy.special.rel_entr(said, own).sum(axis=1).mean()
    found = losses.value_relations(
        tf.constant(student, tf.float32), tf.constant(teacher, tf.float32)
    )
    assert found.numpy() == pytest.approx(expected, rel=1e-5)


def test_value_relations_ignore_padding():
    draw = np.random.default_rng(0)
    student, teacher = draw.normal(size=(2, 3, 4, 5)), draw.normal(size=(2, 3, 4, 6))
    counted = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
    expected, rows = 0.0, 0
    for text, tokens in enumerate((4, 2)):
        for head in range(3):
            own, said = (
                scipy.special.softmax(v @ v.T / np.sqrt(v.shape[1]), axis=1)
                for v in (student[text, head, :tokens], teacher[text, head, :tokens])
            )
            expected += scipy.special.rel_entr(said, own).sum()
            rows += tokens
    found = losses.value_relations(
        tf.constant(student, tf.float32), tf.constant(teacher, tf.float32), counted[:, None, :]
    )
    assert found.numpy() == pytest.approx(expected / rows, rel=1e-5)


@pytest.mark.parametrize("loss", [losses.distances, losses.angles, losses.value_relations])
def test_equal_vectors_have_finite_gradients(loss):
    student = tf.Variable(tf.ones([4, 3]))
    with tf.GradientTape() as tape:
        value = loss(student, tf.constant(np.eye(4, 5), tf.float32))
    assert np.isfinite(value.numpy())
    assert np.isfinite(tape.gradient(value, student).numpy()).all()
