"""Options of a training run that are not part of the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tfrec_meta.data import Interactions
from tfrec_meta.errors import ParameterError
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import Recommender, Teacher
from tfrec_meta.training.validation import Validation

Curve = list[dict[str, float]]
"""The learning curve: one dict per epoch with `epoch`, `loss`, `seconds` and validation metrics."""
OnEpoch = Callable[[Recommender, Mapping[str, float]], None]
"""on_epoch(model, line): called after each epoch with that epoch's line of the curve.

An exception that it raises ends the training. A resumed training calls it for the remaining epochs
only. With several processes, each process calls it, and all have to end together.
"""


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run that are not part of the recipe.

    Args:
        validation: later or held-out events, for early stopping: the model keeps the weights of the
            best epoch. Several runs may share one `Validation`. None trains all epochs.
        folder: folder for checkpoints, TensorBoard logs and `history.jsonl`. A run that was killed
            resumes from it. None writes nothing.
        progress: whether to show a progress bar, or plain lines where there is no terminal.
        warm_start: an earlier model of the same family and shape. Training starts from its weights;
            rows are matched by token.
        teacher: a fitted model, or another `Teacher`, to distill from.
        on_epoch: called after each epoch; see `OnEpoch`.
        recommend_history: whether validation ranks items of the users' histories like all others.
        callbacks: additional tf_keras callbacks, for families that are trained by steps.
        refit_of: a fitted model of the same strategy, whose curve says how long to train: as many
            epochs as its best epoch, on the same schedule. An ensemble takes its weights. There is
            no validation then.
    """

    validation: Interactions | Validation | None = None
    folder: Path | str | None = None
    progress: bool = True
    warm_start: Recommender | None = None
    teacher: Teacher | None = None
    on_epoch: OnEpoch | None = None
    recommend_history: bool = False
    callbacks: Sequence[tf_keras.callbacks.Callback] = ()
    refit_of: Recommender | None = None

    def best_epoch(self) -> int | None:
        """Returns the best epoch of `refit_of`, without validation its last one; None without it.

        Raises:
            ValueError: if that model has no learning curve.
        """
        model = self.refit_of
        if model is None:
            return None
        if not model.curve:
            raise ParameterError(
                f"`model`, of family {model.family!r}, has no learning curve, so the number of its "
                "epochs is not known. Use the model that `train` returned, not a loaded one.",
                "model",
            )
        scored = [line for line in model.curve if model.objective in line] or model.curve[-1:]
        best = max(scored, key=lambda line: model.objective.score(line.get(model.objective, 0.0)))
        return int(best["epoch"])
