"""Two-tower students that learn from the scores of another model."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.models import EASEConfig, TwoTower


@pytest.fixture(scope="module")
def data():
    return tm.synthetic(users=40, items=20, interactions=400, seed=3)


@pytest.fixture(scope="module")
def teacher(data):
    return tm.train(data, tm.Strategy("ease", EASEConfig(l2=5.0)))


def student(**recipe):
    shape = tm.TwoTowerConfig(embedding_dim=16, negatives="full", teacher_weight=1.0)
    return tm.Strategy("two_tower", shape, tm.TrainingConfig(batch_size=64, **recipe))


@pytest.mark.slow
def test_a_student_of_the_teacher_alone_ranks_like_the_teacher(data, teacher, tmp_path):
    strategy = student(epochs=60, learning_rate=0.02, weight_decay=0.0)
    model = tm.train(data, strategy, teacher=teacher, folder=tmp_path, progress=False)
    histories = np.array([["i1", "i2", "i3"], ["i5", "i6", ""], ["i9", "i4", "i7"]], object)
    queries = model.spec.encode_queries(["?"] * 3, histories)
    for said, taught, own in zip(
        model.score(queries), teacher.score(queries), queries["history"], strict=True
    ):
        unseen = np.setdiff1d(
            np.arange(20), own - 1
        )  # seen items are masked, so they are not learned
        assert scipy.stats.spearmanr(said[unseen], taught[unseen]).statistic > 0.7
    assert not any("ease" in variable.name for variable in model.weights)
    other = tm.train(data, tm.Strategy("ease", EASEConfig(l2=50.0)))
    with pytest.raises(ValueError, match=r"data\.teacher"):
        tm.train(data, strategy, teacher=other, folder=tmp_path, progress=False)


def test_the_teacher_scores_each_item_of_a_window_with_its_earlier_items(data):
    model = TwoTower(student().model, tm.FeatureSpec(history_length=5).fit(data))
    model.prepare(data)
    asked = {}

    class Teacher:
        spec = model.spec
        has_embeddings = False

        def logits_or_prior(self, query):
            asked.update(query)
            return tf.zeros([tf.shape(query["user_id"])[0], 20])

    model.teach(Teacher())
    model.compute_loss(
        {
            "user_id": tf.constant([1, 2]),
            "history": tf.constant([[3, 4, 5], [6, 0, 0]]),
            "item_id": tf.constant([[4, 5, 7], [8, 0, 0]]),
        }
    )
    expected = [[3, 0, 0], [3, 4, 0], [3, 4, 5], [6, 0, 0]]
    np.testing.assert_array_equal(asked["history"], expected)
    np.testing.assert_array_equal(asked["user_id"], [1, 1, 1, 2])


def test_models_that_cannot_learn_from_a_teacher_refuse_one(data, teacher):
    with pytest.raises(ValueError, match="Use 'full' and 'softmax'"):
        tm.train(data, "two_tower", teacher=teacher)
    with pytest.raises(ValueError, match=r"features=teacher\.spec"):
        tm.train(data, student(), teacher=teacher, features=tm.FeatureSpec().fit(data))
    for family in ("ease", "ensemble"):
        with pytest.raises(ValueError, match=f"Family '{family}' cannot learn from a teacher"):
            tm.train(data, family, teacher=teacher)
