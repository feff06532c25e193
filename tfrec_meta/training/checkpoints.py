"""Checkpoints of a training run: the last two epochs, and the weights of the best epoch."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec_meta.io.files import write_text
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.training.options import Curve


class Checkpoints:
    """Writes and reads the checkpoints of a run, and its learning curve in `history.jsonl`.

    Args:
        model: the model that is trained.
        optimizer: its optimizer.
        folder: the folder of the run.
        writes: whether this process writes into `folder`. With several workers only one does.
            Reading variables of replicas takes all workers, so the others write, too, but into a
            temporary folder.
    """

    def __init__(
        self,
        model: TrainableRecommender,
        optimizer: tf_keras.optimizers.Optimizer,
        folder: Path,
        writes: bool,
    ):
        self._model = model
        self._read_folder = self._write_folder = folder
        if not writes:
            self._temporary = tempfile.TemporaryDirectory(prefix="tfrec-meta-worker-")
            self._write_folder = Path(self._temporary.name)
        self._record = tf.Variable("{}", dtype=tf.string)
        self._last = tf.train.Checkpoint(model=model, optimizer=optimizer, record=self._record)
        # The list of weights, not the model: reading a model would also reset its optimizer.
        self._best = tf.train.Checkpoint(weights=model.weights)
        self._manager = tf.train.CheckpointManager(
            self._last, str(self._write_folder / "checkpoints"), 2
        )

    def write_best(self, epoch: int) -> None:
        """Writes the present weights as those of the best epoch so far."""
        self._best.write(self._best_path(self._write_folder, epoch))

    def write(self, curve: Curve, best_epoch: int | None) -> None:
        """Writes the state after an epoch; from then on a killed run resumes behind this epoch."""
        self._record.assign(json.dumps({"curve": curve, "best": best_epoch}))
        lines = "".join(json.dumps(line) + "\n" for line in curve)
        write_text(self._write_folder / "history.jsonl", lines)
        self._manager.save()
        # Only now: if the run is killed before the save, it resumes from the best epoch before.
        for path in (self._write_folder / "checkpoints").glob("best-*"):
            if not path.name.startswith(f"best-{best_epoch}."):
                path.unlink()

    def resume(self) -> tuple[Curve, int | None, list[np.ndarray]]:
        """Restores model and optimizer from the last checkpoint, if there is one.

        Returns:
            The curve so far, the best epoch or None, and the weights of the best epoch.
        """
        latest = tf.train.latest_checkpoint(str(self._read_folder / "checkpoints"))
        if not latest:
            return [], None, []
        self._last.restore(latest).assert_existing_objects_matched()
        record = json.loads(self._record.numpy())
        if record["best"] is None:
            return record["curve"], None, []
        last_weights = self._model.get_weights()
        read = self._best.read(self._best_path(self._read_folder, record["best"]))
        read.assert_existing_objects_matched()
        best_weights = self._model.get_weights()
        self._model.set_weights(last_weights)
        return record["curve"], record["best"], best_weights

    @staticmethod
    def _best_path(folder: Path, epoch: int) -> str:
        return str(folder / "checkpoints" / f"best-{epoch}")
