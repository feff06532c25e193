"""One training run by steps: validation, early stopping, checkpoints, the curve, and resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.io.logs import logger
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.training.checkpoints import Checkpoints
from tfrec_meta.training.config import TrainingConfig
from tfrec_meta.training.distribution import average_over_workers, is_chief
from tfrec_meta.training.options import Curve, TrainingOptions
from tfrec_meta.training.run_identity import check_same_run, run_identity
from tfrec_meta.training.validation import usable_validation

_log = logger(__name__)


@dataclasses.dataclass(frozen=True)
class _BestEpoch:
    epoch: int
    score: float  # the objective, as a score to be maximised
    weights: list[np.ndarray]


class TrainingSession(tf_keras.callbacks.Callback):
    """Follows one training run: validates each epoch, stops early, writes checkpoints, resumes.

    Args:
        model: the model that is trained.
        optimizer: its optimizer.
        data: the training events.
        config: the recipe.
        options: the options of the run.
        digests: digests of the inputs by name; a folder resumes only a run with the same ones.

    Attributes:
        trained: the model.
        curve: the learning curve so far.
        epochs: the number of epochs after which the training ends at the latest.

    Raises:
        ValueError: if the folder holds a run with other settings or inputs.
    """

    def __init__(
        self,
        model: TrainableRecommender,
        optimizer: tf_keras.optimizers.Optimizer,
        data: Interactions | StreamedInteractions,
        config: TrainingConfig,
        options: TrainingOptions,
        digests: Mapping[str, str | None],
    ):
        super().__init__()
        self.trained = model
        self.curve: Curve = []
        self.epochs = options.best_epoch() or config.epochs
        self._optimizer = optimizer
        self._config = config
        self._strategy = model.distribute_strategy
        self._best: _BestEpoch | None = None
        events = options.validation
        self._validation = usable_validation(
            events, model.spec, data, config.seed, options.recommend_history
        )
        if self._validation is None and events is not None and len(events):
            _log.warning("No validation event has an item of the catalogue: no early stopping.")
        self._checkpoints = None
        if options.folder is not None:
            folder, chief = Path(options.folder), is_chief(self._strategy)
            check_same_run(folder, run_identity(model, config, digests), write=chief)
            self._checkpoints = Checkpoints(model, optimizer, folder, writes=chief)
            self.curve, best, weights = self._checkpoints.resume()
            if best is not None:
                self._best = _BestEpoch(best, self._score(self.curve[best - 1]), weights)

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.curve)

    @property
    def stopped(self) -> bool:
        """Whether the training is done, or patience has run out."""
        if self.epoch >= self.epochs:
            return True
        if self._best is None or not self._config.patience:
            return False
        return self.epoch - self._best.epoch >= self._config.patience

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs if logs is not None else {}
        loss = float(logs.get("loss", math.nan))
        if not math.isfinite(loss):
            raise ValueError(
                f"The loss of epoch {epoch + 1} is {loss}. Lower `learning_rate` "
                f"({self._config.learning_rate}) or raise the temperature."
            )
        line = {"epoch": epoch + 1, "loss": loss}
        if self._validation is not None:
            with self._averaged_weights():
                found = self._validation.metrics(self.trained)
                line |= average_over_workers(self._strategy, found)
                score = self._score(line)
                if self._best is None or score > self._best.score:
                    self._best = _BestEpoch(epoch + 1, score, self.trained.get_weights())
                    if self._checkpoints is not None:
                        self._checkpoints.write_best(epoch + 1)
            logs.update({k: v for k, v in line.items() if k.startswith("val_")})
        line["seconds"] = time.perf_counter() - self._began
        self.curve.append(line)
        if self._checkpoints is not None:
            best = None if self._best is None else self._best.epoch
            self._checkpoints.write(self.curve, best)
        if self.stopped:
            self.model.stop_training = True

    def finish(self) -> None:
        """Sets the weights of the best epoch; without validation, the averaged or last weights."""
        if self._best is not None:
            self.trained.set_weights(self._best.weights)
        elif self._config.average_decay:
            self._optimizer.finalize_variable_values(self.trained.trainable_variables)
        self.trained.refresh()

    def _score(self, line: Mapping[str, float]) -> float:
        """The model's objective in a line of the curve, as a score to be maximised."""
        objective = self.trained.objective
        return objective.score(line[objective])

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Gives the model the running mean of its weights for a while, if the recipe has one."""
        if not self._config.average_decay:
            yield
            return
        variables = self.trained.trainable_variables
        last = [variable.numpy() for variable in variables]
        self._optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, last, strict=True):
                variable.assign(value)
