"""A training run: its curve, early stopping, and which weights it ends with."""

import dataclasses
import json

import numpy as np
import pytest

from tests.training.small_run import (
    QUICK,
    SPEC,
    SPLIT,
    Interrupt,
    assert_same_weights,
    fitted,
    without_seconds,
)
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.keras import tf_keras
from tfrec_meta.training import Validation, validation


def test_the_curve_has_loss_metrics_and_seconds_of_each_epoch(uninterrupted):
    _, curve = uninterrupted
    assert [line["epoch"] for line in curve] == [1, 2, 3]
    for line in curve:
        assert set(line) == {"epoch", "loss", "val_ndcg@10", "val_recall@10", "seconds"}
        assert 0 <= line["val_ndcg@10"] <= 1
        assert line["seconds"] > 0
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert json.loads(json.dumps(curve)) == curve


def test_the_same_seed_gives_the_same_weights_and_metrics(uninterrupted):
    model, curve = fitted()
    assert_same_weights(model.state(), uninterrupted[0])
    assert without_seconds(curve) == without_seconds(uninterrupted[1])
    assert model.curve == tuple(curve)


def test_without_validation_all_epochs_are_trained_and_the_last_weights_kept():
    config = dataclasses.replace(QUICK, epochs=2, patience=1)
    model, curve = fitted(config, validation=None)
    assert [set(line) for line in curve] == [{"epoch", "loss", "seconds"}] * 2
    with_empty, _ = fitted(config, validation=SPLIT.train.take([]))
    assert_same_weights(with_empty.state(), model.state())


class ScriptedValidation:
    """Replaces `Validation`; its metrics come from a list."""

    values = ()
    has_relevant_items = True

    def __init__(self, *_):
        self.remaining = list(self.values)

    def metrics(self, model):
        model.refresh()
        return {Objective.NDCG: self.remaining.pop(0)}


def test_training_stops_when_patience_runs_out_and_keeps_the_best_epoch(monkeypatch):
    monkeypatch.setattr(validation, "Validation", ScriptedValidation)
    monkeypatch.setattr(ScriptedValidation, "values", (0.1, 0.5, 0.4, 0.5, 0.9))
    states = []

    class Keep(tf_keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            states.append(self.model.state())

    config = dataclasses.replace(QUICK, epochs=5, patience=2)
    model, curve = fitted(config, callbacks=[Keep()])
    assert [line[Objective.NDCG] for line in curve] == [0.1, 0.5, 0.4, 0.5]
    assert_same_weights(model.state(), states[1])  # the first of the two best epochs

    _, curve = fitted(dataclasses.replace(config, patience=0))
    assert len(curve) == 5


@pytest.mark.slow
def test_a_stopped_run_stays_stopped_and_keeps_only_the_best_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "Validation", ScriptedValidation)
    monkeypatch.setattr(ScriptedValidation, "values", (0.1, 0.5, 0.4))
    config = dataclasses.replace(QUICK, patience=1)
    model, curve = fitted(config, folder=tmp_path)
    best = {path.name.split(".")[0] for path in (tmp_path / "checkpoints").glob("best-*")}
    assert best == {"best-2"}
    again, same = fitted(config, folder=tmp_path, callbacks=[Interrupt(0)])
    assert same == curve
    assert_same_weights(again.state(), model.state())


def test_a_loss_of_nan_raises_an_error_with_advice():
    class Poison(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.item_bias.assign(self.model.item_bias * np.nan)

    with pytest.raises(ValueError, match=r"loss of epoch 2 is nan. Lower `learning_rate` \(0.02\)"):
        fitted(callbacks=[Poison()])


def test_averaged_weights_are_validated_and_kept():
    config = dataclasses.replace(QUICK, epochs=1, average_decay=0.5, learning_rate=0.05)
    config = dataclasses.replace(config, batch_size=len(SPLIT.train) // 2)  # two steps
    seen = []

    class Weights(tf_keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.item_embedding.numpy())

        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.item_embedding.numpy())

    model, curve = fitted(config, callbacks=[Weights()])
    assert len(seen) == 3
    expected = 0.5 * (0.5 * seen[0] + 0.5 * seen[1]) + 0.5 * seen[2]
    np.testing.assert_allclose(model.item_embedding.numpy(), expected, atol=1e-6)
    found = Validation(SPEC, SPLIT.train, SPLIT.validation, seed=1)
    assert found.metrics(model)["val_ndcg@10"] == curve[0]["val_ndcg@10"]


@pytest.mark.slow
def test_averaged_weights_are_kept_without_validation():
    config = dataclasses.replace(QUICK, average_decay=0.9)
    averaged, _ = fitted(config)
    unvalidated, _ = fitted(config, validation=None)
    plain, _ = fitted(dataclasses.replace(config, average_decay=0.0), validation=None)
    assert not np.allclose(unvalidated.item_embedding, plain.item_embedding, atol=1e-4)
    assert averaged.state().keys() == unvalidated.state().keys()
