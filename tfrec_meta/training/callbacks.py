"""Keras callbacks of the training loop: the progress bar and the caller's `on_epoch`."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from tfrec_meta.keras import tf_keras
from tfrec_meta.training.options import OnEpoch
from tfrec_meta.training.session import TrainingSession


class ProgressBar(tf_keras.callbacks.Callback):
    """Shows a tqdm bar on a terminal, and one line per epoch elsewhere."""

    _supports_tf_logs = True  # needs no metrics per batch, which parameter servers do not provide

    def __init__(self, epochs: int, steps: int):
        super().__init__()
        self._epochs, self._steps = epochs, steps
        self._bar = tqdm(disable=True)  # each epoch makes its own

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        label = f"epoch {epoch + 1}/{self._epochs}"
        self._bar = tqdm(total=self._steps, desc=label, disable=None, leave=True, unit="step")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update(batch + 1 - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        names = ("loss", self.model.objective)
        shown = {k: f"{v:.4f}" for k, v in (logs or {}).items() if k in names}
        self._bar.set_postfix(shown)
        self._bar.close()
        if self._bar.disable:
            text = ", ".join(f"{key} {value}" for key, value in shown.items())
            print(f"epoch {epoch + 1}/{self._epochs}: {text}", file=sys.stderr, flush=True)


class EpochReport(tf_keras.callbacks.Callback):
    """Calls `on_epoch` after each epoch, once its checkpoint is written."""

    _supports_tf_logs = True  # needs no metrics per batch, which parameter servers do not provide

    def __init__(self, session: TrainingSession, on_epoch: OnEpoch):
        super().__init__()
        self._session, self._on_epoch = session, on_epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._on_epoch(self._session.trained, self._session.curve[-1])
