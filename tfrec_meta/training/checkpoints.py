"""Checkpoints of a training run: the last two epochs, and the weights of the best epoch.

checkpoints/epoch-3/   model, optimizer and learning curve after epoch 3
checkpoints/best-2/    the weights after epoch 2, the best one so far
history.jsonl          the learning curve
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec_meta.io.files import write_text
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.training.checkpoint_folder import CheckpointFolder
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
        self._model, self._folder, self._writes = model, folder, writes
        self._write_folder = folder
        if not writes:
            self._temporary = tempfile.TemporaryDirectory(prefix="tfrec-meta-worker-")
            self._write_folder = Path(self._temporary.name)
        self._record = tf.Variable("{}", dtype=tf.string)
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer, record=self._record)
        # The list of weights, not the model: reading a model would also reset its optimizer.
        self._weights = tf.train.Checkpoint(weights=model.weights)
        self._epochs = self._epochs_in(self._write_folder)
        self._best = self._best_in(self._write_folder)

    def write_best(self, epoch: int) -> None:
        """Writes the present weights as those of the best epoch so far."""
        self._best.write(epoch)

    def write(self, curve: Curve, best_epoch: int | None) -> None:
        """Writes the state after an epoch; from then on a killed run resumes behind this epoch."""
        self._record.assign(json.dumps({"curve": curve, "best": best_epoch}))
        self._write_curve(curve)
        self._epochs.write(len(curve))
        # Only now: if the run is killed before, it resumes from the best epoch before.
        self._clear(len(curve), best_epoch)

    def resume(self) -> tuple[Curve, int | None, list[np.ndarray]]:
        """Restores model and optimizer from the last checkpoint, if there is one.

        Returns:
            The curve so far, the best epoch or None, and the weights of the best epoch.

        Raises:
            DamagedFile: if a checkpoint cannot be read.
        """
        epochs = self._epochs_in(self._folder)
        last = epochs.latest()
        if last is None:
            return [], None, []
        restart = f"{self._folder} to train from the start"
        way_out = f"Remove {epochs.path(last)} to resume from the epoch before, or {restart}"
        epochs.read(last, way_out)
        try:
            record = json.loads(self._record.numpy())
            curve, best = list(record["curve"]), record["best"]
        except (ValueError, LookupError, TypeError) as error:
            raise epochs.damage(last, f"it has no learning curve ({error})", way_out) from error
        if self._writes:
            self._write_curve(curve)  # its file may be damaged, or have an epoch more
            self._clear(len(curve), best)
        if best is None:
            return curve, None, []
        last_weights = self._model.get_weights()
        self._best_in(self._folder).read(best, f"Remove {restart}")
        best_weights = self._model.get_weights()
        self._model.set_weights(last_weights)
        return curve, best, best_weights

    def _epochs_in(self, folder: Path) -> CheckpointFolder:
        return CheckpointFolder(self._state, folder / "checkpoints", "epoch")

    def _best_in(self, folder: Path) -> CheckpointFolder:
        return CheckpointFolder(self._weights, folder / "checkpoints", "best")

    def _write_curve(self, curve: Curve) -> None:
        lines = "".join(json.dumps(line) + "\n" for line in curve)
        write_text(self._write_folder / "history.jsonl", lines)

    def _clear(self, epoch: int, best_epoch: int | None) -> None:
        """Removes all but the last two epochs and their best weights, and left-overs of kills."""
        self._epochs.keep(epoch, epoch - 1)
        best = [] if best_epoch is None else [best_epoch]
        before = [number for number in self._best.numbers() if number < epoch]
        self._best.keep(*best, *before[-1:] if best else [])
