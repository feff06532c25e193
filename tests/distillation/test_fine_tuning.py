"""Steps, accumulation, and going on after a kill."""

import dataclasses
import signal

import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.tiny_bert import write_tiny_bert
from tests.processes import Script
from tfrec_meta.content.bert import mean_of_tokens
from tfrec_meta.content.checkpoints import BertCheckpoint
from tfrec_meta.distillation import FineTuningConfig
from tfrec_meta.distillation.fine_tuning import fit, seed_dropout

RECIPE = FineTuningConfig(epochs=2, learning_rate=0.1, weight_decay=0.0, checkpoint_every=2)


def squares(weight):
    return lambda batch: tf.reduce_mean(tf.square(weight - batch["x"]))


def batch_of(step):
    return [{"x": np.array([step, step + 1], np.float32)}]


def fitted(config=RECIPE, batches=batch_of, steps=6, **kwargs):
    weight = tf.Variable([[5.0]])
    step = tf.Variable(0, dtype=tf.int64)
    curve = fit([weight], squares(weight), batches, steps, config, step, progress=False, **kwargs)
    return weight.numpy(), curve


def test_curve_is_the_mean_loss_of_each_epoch():
    seen = []

    def loss_of(weight):
        def loss(batch):
            value = tf.reduce_mean(tf.square(weight - batch["x"]))
            tf.py_function(lambda v: seen.append(float(v)), [value], [])
            return value

        return loss

    weight = tf.Variable([[5.0]])
    step = tf.Variable(0, dtype=tf.int64)
    curve = fit([weight], loss_of(weight), batch_of, 6, RECIPE, step, progress=False)
    assert [line["epoch"] for line in curve] == [0, 1]
    np.testing.assert_allclose(
        [line["loss"] for line in curve], [np.mean(seen[:3]), np.mean(seen[3:])], rtol=1e-5
    )
    assert int(step) == 6


def test_accumulated_batches_are_one_step_with_the_mean_gradient():
    whole = fitted(steps=3)[0]

    def halves(step):
        (one,) = batch_of(step)
        return [{"x": one["x"][:1]}, {"x": one["x"][1:]}]

    np.testing.assert_allclose(fitted(batches=halves, steps=3)[0], whole, rtol=1e-6)


@pytest.mark.parametrize("at", [1, 3, 5])
def test_run_resumes_after_a_kill_with_the_same_result(tmp_path, at):
    expected, expected_curve = fitted()

    def killed(step):
        if step == at:
            raise KeyboardInterrupt
        return batch_of(step)

    with pytest.raises(KeyboardInterrupt):
        fitted(batches=killed, folder=tmp_path)
    asked = []

    def counted(step):
        asked.append(step)
        return batch_of(step)

    found, curve = fitted(batches=counted, folder=tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert curve == expected_curve
    assert asked == list(range(at - at % 2, 6))  # a checkpoint every two steps
    again, curve = fitted(batches=killed, folder=tmp_path)  # finished before: no batch is requested
    np.testing.assert_array_equal(again, expected)
    assert curve == expected_curve


@pytest.mark.slow
def test_later_process_resumes_a_killed_one(tmp_path):
    expected, expected_curve = fitted()
    script = f"""
import os, signal
from tests.distillation.test_fine_tuning import batch_of, fitted

def killed(step):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch_of(step)

fitted(batches=killed, folder={str(tmp_path)!r})
"""
    process = Script(script)
    _, err = process.communicate(120)
    assert process.returncode == -signal.SIGKILL, err
    asked = []

    def counted(step):
        asked.append(step)
        return batch_of(step)

    found, curve = fitted(batches=counted, folder=tmp_path)
    np.testing.assert_array_equal(found, expected)
    assert curve == expected_curve
    assert asked == [4, 5]


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    fitted(folder=tmp_path, run={"texts": "these"})
    with pytest.raises(ValueError, match=r"`texts` was 'these' and is 'others'\. Use another"):
        fitted(folder=tmp_path, run={"texts": "others"})
    other = dataclasses.replace(RECIPE, weight_decay=0.5)
    with pytest.raises(ValueError, match=r"`weight_decay` was .* and is 0.5"):
        fitted(other, folder=tmp_path, run={"texts": "these"})
    (tmp_path / "run.json").write_text("[")
    with pytest.raises(ValueError, match=r"run.json is damaged: .*\. Use another folder"):
        fitted(folder=tmp_path, run={"texts": "these"})


def test_non_finite_loss_is_an_error():
    with pytest.raises(ValueError, match=r"The loss is nan at step 1. Lower `learning_rate`"):
        fitted(batches=lambda step: [{"x": np.array([np.nan], np.float32)}])


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_dropout_depends_on_the_step_number(tmp_path, kind):
    checkpoint = BertCheckpoint.load(write_tiny_bert(tmp_path, kind))
    model, step = checkpoint.model(dropout=0.3), tf.Variable(0, dtype=tf.int64)
    weights = len(model.weights)
    seed_dropout(model, 1, step)
    assert len(model.weights) == weights
    ids = tf.constant([[2, 4, 5, 3]])
    mask = tf.ones_like(ids)
    first = mean_of_tokens(model, ids, mask, training=True)
    np.testing.assert_array_equal(mean_of_tokens(model, ids, mask, training=True), first)
    step.assign(1)
    other = mean_of_tokens(model, ids, mask, training=True)
    assert np.abs(other - first).max() > 1e-3
    plain = checkpoint.model(dropout=0.0)
    np.testing.assert_allclose(
        mean_of_tokens(model, ids, mask), mean_of_tokens(plain, ids, mask), atol=1e-6
    )
    assert np.abs(first - mean_of_tokens(plain, ids, mask)).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "half"}, "`method`='half'"),
        ({"size": 0}, "`size`=0"),
        ({"max_steps": 0}, "`max_steps`=0; use 1 or more"),
        ({"epochs": 1.5}, "`epochs`=1.5"),
        ({"accumulation": 0}, "`accumulation`=0"),
        ({"checkpoint_every": 0}, "`checkpoint_every`=0"),
        ({"learning_rate": 0.0}, "`learning_rate`=0.0"),
        ({"learning_rate": float("nan")}, "`learning_rate`=nan"),
        ({"temperature": -1.0}, "`temperature`=-1.0"),
        ({"weight_decay": -0.1}, "`weight_decay`=-0.1"),
        ({"dropout": 1.0}, "`dropout`=1.0"),
    ],
)
def test_invalid_recipes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FineTuningConfig(**changes)
