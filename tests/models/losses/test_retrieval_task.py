"""The retrieval loss: negatives and corrections, worked by hand."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_recommenders as tfrs

import tfrec_meta as tm
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.losses.retrieval_task import Choices, RetrievalLossConfig, RetrievalTask
from tfrec_meta.models.losses.teacher_loss import TeacherLoss

# Five items (rows 1 to 5), whose one-dimensional embeddings are their rows over 10.
COUNTS = tf.constant([4.0, 2.0, 2.0, 1.0, 1.0])
NO_HISTORY = tf.zeros([2, 1], tf.int32)


def embed_items(rows):
    return tf.cast(rows, tf.float32)[:, None] / 10


def loss_of(config, query=(1.0, 2.0), items=(1, 3), own=NO_HISTORY, task=None, **options):
    task = task or RetrievalTask(config, 6, 1)
    return float(
        task(
            Choices(
                tf.constant(query)[:, None],
                tf.constant(items),
                own,
                options.get("owner"),
                options.get("sample_weight"),
            ),
            embed_items,
            COUNTS,
            tf.constant([0, options.get("step", 0)], tf.int64),
            merge=options.get("merge", True),
            teacher_loss=options.get("teacher_loss"),
            teacher_logits=options.get("teacher_logits"),
        )
    )


class Teacher:
    """Returns the same for every query."""

    spec, has_embeddings = tm.FeatureSpec(), False

    def __init__(self, scores):
        self._scores = tf.constant(scores, tf.float32)

    def logits_or_prior(self, query):
        return self._scores


def plain(**options):
    return RetrievalLossConfig(**{"logq": "none", "temperature": 1.0, **options})


def cross_entropy(logits, chosen):
    return np.log(np.exp(logits).sum()) - logits[chosen]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature`=0.0; use"),
        ({"loss": "hinge"}, "`loss`='hinge'; use one of"),
        ({"negatives": "none"}, "`negatives`='none'; use one of"),
        ({"logq": True}, "`logq`=True; use one of"),
        ({"uniform_negatives": 0}, "`uniform_negatives`=0; use 1"),
        ({"memory": -1}, "`memory`=-1; use 0"),
        ({"memory": 8, "negatives": "full"}, "`memory`=8 with `negatives`='full'"),
        ({"hard_negatives": -1}, "`hard_negatives`=-1; use 0"),
        ({"label_smoothing": 1.0}, "`label_smoothing`=1.0; use"),
        ({"calibration": 1.5}, "`calibration`=1.5; use"),
        ({"margin": 2.0}, "`margin`=2.0; use"),
        ({"negative_weight": 0.0}, "`negative_weight`=0.0; use"),
        ({"teacher_temperature": 0.0}, "`teacher_temperature`=0.0; use"),
        ({"teacher_weight": 1.5}, "`teacher_weight`=1.5; use"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        RetrievalLossConfig(**options)


def test_full_compares_with_the_whole_catalogue():
    every = np.arange(1, 6) / 10
    expected = (cross_entropy(every, 0) + cross_entropy(2 * every, 2)) / 2
    assert loss_of(plain(negatives="full")) == pytest.approx(expected, rel=1e-5)


def test_full_excludes_items_of_the_own_history_except_the_chosen_one():
    own = tf.constant([[2, 4], [3, 5]])
    first = cross_entropy(np.array([0.1, 0.3, 0.5]), 0)
    second = cross_entropy(2 * np.array([0.1, 0.2, 0.3, 0.4]), 2)
    found = loss_of(plain(negatives="full"), own=own)
    assert found == pytest.approx((first + second) / 2, rel=1e-5)
    assert loss_of(plain(negatives="full", mask_positives=False), own=own) != found


def test_owner_maps_queries_to_histories():
    own = tf.constant([[2, 4]])
    expected = [
        cross_entropy(np.array([0.1, 0.3, 0.5]), 0),
        cross_entropy(2 * np.array([0.1, 0.3, 0.5]), 1),
    ]
    found = loss_of(plain(negatives="full"), own=own, owner=tf.constant([0, 0], tf.int64))
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def test_hard_negatives_are_those_with_the_highest_logits():
    hardest = (cross_entropy([0.1, 0.5], 0) + cross_entropy([0.6, 1.0], 0)) / 2
    found = loss_of(plain(negatives="full", hard_negatives=1))
    assert found == pytest.approx(hardest, rel=1e-5)
    in_batch = (cross_entropy([0.1, 0.3], 0) + cross_entropy([0.2, 0.6], 1)) / 2
    found = loss_of(plain(hard_negatives=1), items=(1, 3))
    assert found == pytest.approx(in_batch, rel=1e-5)


def test_in_batch_equals_the_loss_of_tfrs_with_repeated_items():
    rng = np.random.default_rng(1)
    query = rng.normal(size=40).astype(np.float32)
    items = rng.integers(1, 6, 40).astype(np.int32)
    own = tf.zeros([40, 1], tf.int32)
    task = tfrs.tasks.Retrieval(
        loss=tf_keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction=tf_keras.losses.Reduction.SUM_OVER_BATCH_SIZE
        ),
        remove_accidental_hits=True,
    )
    expected = task(
        query[:, None],
        embed_items(items),
        candidate_ids=items,
        candidate_sampling_probability=tf.gather(COUNTS / 4.0, items - 1),
        compute_metrics=False,
    )
    config = RetrievalLossConfig(temperature=1.0)
    for merge in (True, False):
        found = loss_of(config, query, items, own, merge=merge)
        assert found == pytest.approx(float(expected), rel=1e-5)


def drawn_items(step, count):
    draw = tf.constant([0, step], tf.int64)
    return tf.random.stateless_uniform([count], draw, 1, 6, tf.int32).numpy()


def test_uniform_compares_with_sampled_items_only():
    config = plain(negatives="uniform", uniform_negatives=4)
    for step in range(3):
        drawn = drawn_items(step, 4)
        expected = []
        for scale, chosen in ((1.0, 1), (2.0, 3)):
            others = drawn[drawn != chosen]
            expected.append(cross_entropy(scale * np.array([chosen, *others]) / 10, 0))
        assert loss_of(config, step=step) == pytest.approx(np.mean(expected), rel=1e-5)


def test_mixed_negatives_are_corrected_by_the_frequency_of_both_kinds():
    config = RetrievalLossConfig(temperature=1.0, negatives="mixed", uniform_negatives=4)
    drawn = drawn_items(0, 4)
    pool = np.array([1, 3, *drawn])
    # Two of the batch by popularity (of 10 interactions), four of five items by chance.
    expected_count = 2 * np.array([4, 2, 2, 1, 1]) / 10 + 4 / 5
    expected = []
    for scale, place in ((1.0, 0), (2.0, 1)):
        kept = (pool != pool[place]) | (np.arange(6) == place)
        logits = scale * pool / 10 - np.log(expected_count[pool - 1])
        expected.append(cross_entropy(logits[kept], kept[:place].sum()))
    assert loss_of(config) == pytest.approx(np.mean(expected), rel=1e-5)


def test_memory_adds_items_of_earlier_batches_with_their_earlier_embeddings():
    task = RetrievalTask(plain(memory=3), 6, 1)
    at_first = loss_of(None, task=task)  # the memory of earlier candidates is empty
    assert at_first == pytest.approx(loss_of(plain()), rel=1e-6)
    task.remember(tf.constant([[2, 0], [5, 0]]), lambda rows: -embed_items(rows))
    expected = [
        cross_entropy(np.array([0.1, 0.3, -0.2, -0.5]), 0),
        cross_entropy(2 * np.array([0.1, 0.3, -0.2, -0.5]), 1),
    ]
    assert loss_of(None, task=task) == pytest.approx(np.mean(expected), rel=1e-5)


def test_memory_drops_the_oldest_items_first():
    task = RetrievalTask(plain(memory=3), 6, 1)
    for items in ([1, 2], [3, 4], [5]):
        task.remember(tf.constant(items), embed_items)
    assert sorted(task._remembered.numpy()) == [3, 4, 5]
    task.remember(tf.constant([1, 2, 3, 4, 5]), embed_items)
    assert sorted(task._remembered.numpy()) == [3, 4, 5]


def test_streaming_estimates_how_often_an_item_is_in_a_batch():
    task = RetrievalTask(RetrievalLossConfig(logq="streaming"), 6, 1)
    for step in range(400):  # item 1 in every batch, item 2 in every fourth
        task.remember(tf.constant([1, 1] if step % 4 else [1, 2]), embed_items)
    gap = task._gap.numpy()
    assert gap[1] == pytest.approx(1.0)
    assert gap[2] == pytest.approx(4.0, rel=0.05)
    assert gap[3] == 0


def test_streaming_corrects_by_its_estimates():
    task = RetrievalTask(RetrievalLossConfig(logq="streaming", temperature=1.0), 6, 1)
    for step in range(400):
        task.remember(tf.constant([1] if step % 4 else [1, 3]), embed_items)
    correction = np.log([1.0, 1 / task._gap.numpy()[3]])
    logits = [np.array([0.1, 0.3]) - correction, np.array([0.2, 0.6]) - correction]
    expected = (cross_entropy(logits[0], 0) + cross_entropy(logits[1], 1)) / 2
    assert loss_of(None, task=task) == pytest.approx(expected, rel=1e-4)


def test_sample_weights_weight_the_loss():
    config = plain(negatives="full")
    first = loss_of(config, sample_weight=tf.constant([1.0, 0.0]))
    assert first == pytest.approx(cross_entropy(np.arange(1, 6) / 10, 0) / 2, rel=1e-5)


def test_gbce_uses_the_share_of_sampled_negatives_of_each_row():
    config = plain(loss="binary_cross_entropy", calibration=1.0)
    # One negative of the four that the catalogue has: the chosen one's power is a quarter.
    rows = [(0.1, 0.3), (0.6, 0.2)]
    expected = [
        (0.25 * np.log1p(np.exp(-chosen)) + np.log1p(np.exp(other))) / 2 for chosen, other in rows
    ]
    assert loss_of(config) == pytest.approx(np.mean(expected), rel=1e-5)


def test_cosine_contrastive_uses_the_cosine_and_not_the_logit():
    config = RetrievalLossConfig(loss="cosine_contrastive", temperature=0.5, margin=0.0)
    # Cosines are half of the logits .1, .3 and .2, .6.
    expected = np.mean([1 - 0.05 + 0.15, 1 - 0.3 + 0.1])
    assert loss_of(config) == pytest.approx(expected, rel=1e-5)


def test_the_teacher_loss_has_its_share_and_uses_weights_and_masks():
    config = plain(negatives="full", teacher_weight=0.25, teacher_temperature=0.5)
    scores = np.array([[5.0, 1.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 30.0]])
    own = tf.constant([[2], [0]])  # item 2 of the first user is masked in both
    weight, teacher_loss = (
        tf.constant([1.0, 3.0]),
        TeacherLoss(Teacher(scores), Teacher.spec, config, 1),
    )
    found = loss_of(
        config,
        own=own,
        sample_weight=weight,
        teacher_loss=teacher_loss,
        teacher_logits=teacher_loss.scores({}),
    )
    hard, soft = [], []
    for query, chosen, left, row in ((1.0, 0, [0, 2, 3, 4], 0), (2.0, 2, [0, 1, 2, 3, 4], 1)):
        logits = query * np.array([0.1, 0.2, 0.3, 0.4, 0.5])
        hard.append(cross_entropy(logits[left], left.index(chosen)))
        taught = scipy.special.softmax(scipy.stats.zscore(scores[row])[left] / 0.5)
        soft.append(scipy.special.rel_entr(taught, scipy.special.softmax(logits[left])).sum())
    expected = 0.75 * (hard[0] + 3 * hard[1]) / 2 + 0.25 * (soft[0] + 3 * soft[1]) / 2
    assert found == pytest.approx(expected, rel=1e-5)


def test_items_without_events_are_no_negatives_but_are_distilled():
    config = plain(negatives="full", teacher_weight=0.5)
    counts = tf.constant([4.0, 0.0, 2.0, 1.0, 0.0])
    scores = [[1.0, 9.0, 0.0, 2.0, 4.0]] * 2
    teacher_loss = TeacherLoss(Teacher(scores), Teacher.spec, config, 1)
    task = RetrievalTask(config, 6, 1, only_met=True)
    found = float(
        task(
            Choices(tf.constant([[1.0], [2.0]]), tf.constant([1, 3]), NO_HISTORY),
            embed_items,
            counts,
            tf.zeros([2], tf.int64),
            teacher_loss=teacher_loss,
            teacher_logits=teacher_loss.scores({}),
        )
    )
    hard, soft = [], []
    for query, chosen in ((1.0, 0), (2.0, 1)):
        logits = query * np.array([0.1, 0.2, 0.3, 0.4, 0.5])
        hard.append(cross_entropy(logits[[0, 2, 3]], chosen))
        taught = scipy.special.softmax(scipy.stats.zscore(scores[0]))
        soft.append(scipy.special.rel_entr(taught, scipy.special.softmax(logits)).sum())
    assert found == pytest.approx(np.mean(hard) / 2 + np.mean(soft) / 2, rel=1e-5)
