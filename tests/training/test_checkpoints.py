"""Checkpoints: a run that was interrupted or killed resumes and ends with the same weights."""

import dataclasses
import json
import signal

import pytest
import tensorflow as tf

from tests.processes import Script
from tests.training.small_run import (
    QUICK,
    SHAPE,
    Interrupt,
    assert_same_weights,
    fitted,
    without_seconds,
)
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.models import TwoTowerConfig
from tfrec_meta.training import TrainingConfig

EVERYTHING = TrainingConfig(
    epochs=3,
    batch_size=32,
    accumulation=2,
    history_length=8,
    history_dropout=0.1,
    history_crop=0.3,
    history_reorder=0.3,
    learning_rate=0.02,
    l2=0.001,
    adversarial_weight=0.5,
    average_decay=0.9,
)


@pytest.mark.slow
def test_an_interrupted_run_resumes_and_ends_with_the_same_weights(resumed, uninterrupted):
    _, state, curve = resumed
    # So the best epoch has to be read from its own checkpoint.
    assert curve[1][Objective.NDCG] < curve[0][Objective.NDCG]
    assert_same_weights(state, uninterrupted[0])
    assert without_seconds(curve) == without_seconds(uninterrupted[1])


def assert_resumes(folder, config, shape):
    """Checks that an interrupted run ends as one that nothing interrupted."""
    with pytest.raises(KeyboardInterrupt):
        fitted(config, shape=shape, folder=folder, callbacks=[Interrupt(1)])
    resumed, curve = fitted(config, shape=shape, folder=folder)
    uninterrupted, expected = fitted(config, shape=shape)
    assert without_seconds(curve) == without_seconds(expected)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert_same_weights(resumed.state(), uninterrupted.state())


@pytest.mark.slow
def test_training_on_windows_with_dropout_resumes(tmp_path):
    shape = TwoTowerConfig(embedding_dim=8, encoder="transformer", encoder_dropout=0.3)
    config = dataclasses.replace(QUICK, rows="windows", history_dropout=0.1)
    assert_resumes(tmp_path, config, shape)


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["events", "windows"])
def test_a_recipe_with_all_options_resumes(tmp_path, rows):
    shape = dataclasses.replace(
        SHAPE, negatives="mixed", uniform_negatives=20, memory=50, logq="streaming"
    )
    assert_resumes(tmp_path, dataclasses.replace(EVERYTHING, rows=rows), shape)


def test_a_run_folder_holds_curve_checkpoints_and_logs(resumed):
    folder, _, curve = resumed
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "checkpoints",
        "history.jsonl",
        "run.json",
        "tensorboard",
    }
    written = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert written == curve
    found = {}
    for path in (folder / "tensorboard").rglob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found.setdefault(path.parent.name, set()).update(v.tag for v in event.summary.value)
    assert "epoch_loss" in found["train"]
    assert {"epoch_ndcg@10", "epoch_recall@10"} <= found["validation"]


def test_a_finished_run_is_only_read(resumed):
    folder, state, curve = resumed
    model, same = fitted(folder=folder, callbacks=[Interrupt(0)])
    assert same == curve
    assert_same_weights(model.state(), state)


@pytest.mark.slow
def test_a_killed_run_resumes_and_ends_with_the_same_weights(tmp_path, uninterrupted):
    """SIGKILL in a process of its own: no code can clean up."""
    script = f"""
        import os, signal
        from tests.training.small_run import fitted
        from tfrec_meta.keras import tf_keras

        class Kill(tf_keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if self.epoch == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            def on_epoch_begin(self, epoch, logs=None):
                self.epoch = epoch

        fitted(folder={str(tmp_path)!r}, callbacks=[Kill()])
    """
    process = Script(script)
    _, err = process.communicate(120)
    assert process.returncode == -signal.SIGKILL, err
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 1
    model, curve = fitted(folder=tmp_path)
    assert without_seconds(curve) == without_seconds(uninterrupted[1])
    assert_same_weights(model.state(), uninterrupted[0])
