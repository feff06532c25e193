"""Fits models of any family: by steps with early stopping and checkpoints, or in closed form."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import tensorflow as tf

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.io.locks import locked_folder
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.contract import Recommender
from tfrec_meta.models.base.step import StepOptions
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.training.callbacks import EpochReport, ProgressBar
from tfrec_meta.training.config import TrainingConfig
from tfrec_meta.training.distribution import distribute_batches, distribution_strategy, is_chief
from tfrec_meta.training.optimizer_choice import make_optimizer
from tfrec_meta.training.options import Curve, TrainingOptions
from tfrec_meta.training.rows.base import RowOptions, RowsInMemory, TrainingRows
from tfrec_meta.training.rows.events import EventRows
from tfrec_meta.training.rows.streamed import StreamedRows
from tfrec_meta.training.rows.windows import WindowRows
from tfrec_meta.training.run_identity import digest_of_model, digest_of_validation
from tfrec_meta.training.session import TrainingSession
from tfrec_meta.training.validation import usable_validation


def fit(
    model: Recommender,
    data: Interactions | StreamedInteractions,
    config: TrainingConfig = TrainingConfig(),
    options: TrainingOptions = TrainingOptions(),
) -> Curve:
    """Fits a model of any family in place: by steps or in closed form, whichever its family needs.

    A model that is trained by steps keeps the learning curve as its `curve`.

    With `options.folder`, each epoch writes a checkpoint, TensorBoard logs and `history.jsonl`. The
    same call after a kill resumes behind the last finished epoch and ends with the same weights.
    A closed form needs only the data: it has no epochs, and ignores folder, callbacks and
    `on_epoch`.

    Args:
        model: a newly made model.
        data: the training events. The model learns nothing about unknown users and items in them.
        config: the recipe.
        options: validation, folder, warm start, teacher, and what follows the progress.

    Returns:
        The learning curve: one dict per epoch with `epoch`, `loss`, `seconds` and, with validation,
        its metrics prefixed with `val_`. Empty for closed forms.

    Raises:
        DamagedFile: if a file in the folder is cut or empty.
        ValueError: if no event has a known item, the loss is not finite, the model was made outside
            the distribution scope of the recipe or cannot learn from the teacher or warm start, an
            ensemble is to choose its weights without validation events, or the folder holds a run
            with other settings, data, features, warm start or teacher.
        TypeError: if a closed form is given streamed events.
    """
    if model.trains_by_steps:
        return _fit_by_steps(cast(TrainableRecommender, model), data, config, options)
    if isinstance(data, StreamedInteractions) and not model.fits_streams:
        raise TypeError(
            f"Family {model.family!r} is solved from all events together, and these are streamed. "
            "Read them with `read_interactions`, or train a family that learns by steps."
        )
    if options.warm_start is not None:
        model.warm_start(options.warm_start)
    if options.teacher is not None:
        model.teach(options.teacher)
    model.fit(cast(Interactions, data))  # streamed only if the family `fits_streams`
    if model.chooses_weights and options.refit_of is not None:
        model.take_weights(options.refit_of)
    elif model.chooses_weights:
        validation = usable_validation(
            options.validation, model.spec, data, config.seed, options.recommend_history
        )
        if validation is None:
            raise ValueError(
                "`weights`='validation', but no validation event has an item of the catalogue. "
                "Give `validation`, or set the weights."
            )
        model.choose_weights(lambda: validation.metrics(model)[Objective.NDCG])
    return []


def history_kind(
    config: TrainingConfig, data: Interactions | StreamedInteractions
) -> Literal["earlier", "leave_one_out"]:
    """Returns which histories training events have; that of "auto", too."""
    if config.history != "auto":
        return config.history
    return "leave_one_out" if data.sampled and config.rows == "events" else "earlier"


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow."""
    tf_keras.utils.set_random_seed(seed)


def training_rows(
    data: Interactions | StreamedInteractions, model: TrainableRecommender, config: TrainingConfig
) -> TrainingRows:
    """Makes the training rows of a recipe for a model."""
    length = min(config.history_length, model.spec.history_length)
    length = model.history_window(config.rows, length)
    windows = config.rows == "windows"
    if not model.targets:  # ratings and clicks are learned from all events
        data = data.counted_events()
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(RowOptions)}
    options = RowOptions(**{**shared, "history_length": length})
    kind: type[RowsInMemory] = WindowRows if windows else EventRows
    if isinstance(data, StreamedInteractions):
        return StreamedRows(kind, data, model.spec, options)
    return kind.from_interactions(data, model.spec, options)


def _fit_by_steps(
    model: TrainableRecommender,
    data: Interactions | StreamedInteractions,
    config: TrainingConfig,
    options: TrainingOptions,
) -> Curve:
    config = dataclasses.replace(config, history=history_kind(config, data))
    rows = training_rows(data, model, config)
    _check_batches(rows, model, config)
    model.prepare(data)
    if options.warm_start is not None:
        model.warm_start(options.warm_start)
    if options.teacher is not None:
        model.teach(options.teacher)
    _check_distribution(model, data, config)
    optimizer = _compile(model, config, rows.steps)
    digests = {
        "events": rows.digest,
        "validation": digest_of_validation(options.validation, options.recommend_history),
        "warm_start": digest_of_model(options.warm_start),
        "teacher": digest_of_model(options.teacher),
        "refit_epochs": None if options.refit_of is None else str(options.best_epoch()),
    }
    with _locked(model, options):
        session = TrainingSession(model, optimizer, data, config, options, digests)
        _run_epochs(session, rows, config, options)
    session.finish()
    # Keras does not track the curve as a part of the model, because the class has a `curve`, too.
    model.curve = tuple(session.curve)
    return session.curve


def _locked(
    model: TrainableRecommender, options: TrainingOptions
) -> contextlib.AbstractContextManager[Any]:
    """Locks the folder of the run, so that a second process waits until this one is done."""
    if options.folder is None or not is_chief(model.distribute_strategy):
        return contextlib.nullcontext()
    return locked_folder(options.folder)


def _run_epochs(
    session: TrainingSession, rows: TrainingRows, config: TrainingConfig, options: TrainingOptions
) -> None:
    """Runs the epochs that are left."""
    model = session.trained
    if not session.stopped:
        batches, axis = partial(rows.batches, session.epoch), int(config.accumulation > 1)
        with _bfloat16() if config.mixed_precision else contextlib.nullcontext():
            model.fit(
                distribute_batches(batches, model.distribute_strategy, rows.rows_of_batch, axis),
                initial_epoch=session.epoch,
                epochs=config.epochs,
                steps_per_epoch=rows.steps,
                callbacks=_callbacks(session, config, options, rows.steps),
                verbose=0,
            )


def _compile(
    model: TrainableRecommender, config: TrainingConfig, steps: int
) -> tf_keras.optimizers.Optimizer:
    """Compiles the model for a recipe with so many steps per epoch; returns its optimizer."""
    model.step_options = StepOptions(
        config.accumulation,
        config.l2,
        config.adversarial_weight,
        config.adversarial_size,
        config.jit_compile,
    )
    with model.distribute_strategy.scope():
        optimizer = make_optimizer(config, config.epochs * steps, model)
        model.compile(
            optimizer=optimizer,
            steps_per_execution=max(1, min(16, steps // 4)),
            jit_compile=config.jit_compile,
        )
        optimizer.build(model.trainable_variables)
    return optimizer


def _callbacks(
    session: TrainingSession, config: TrainingConfig, options: TrainingOptions, steps: int
) -> list[tf_keras.callbacks.Callback]:
    """The callbacks in their order: validation first, and `on_epoch` once all others are done."""
    callbacks: list[tf_keras.callbacks.Callback] = [session]
    if is_chief(session.trained.distribute_strategy):
        if options.folder is not None:
            logs = Path(options.folder) / "tensorboard"
            callbacks.append(tf_keras.callbacks.TensorBoard(str(logs)))
        if options.progress:
            callbacks.append(ProgressBar(session.epochs, steps))
    callbacks += options.callbacks
    if options.on_epoch is not None:
        callbacks.append(EpochReport(session, options.on_epoch))
    return callbacks


def _check_batches(rows: TrainingRows, model: TrainableRecommender, config: TrainingConfig) -> None:
    """Refuses rows that are too few for a step, or from which the model cannot learn."""
    if not rows.steps:
        raise ParameterError(
            f"`accumulation`={config.accumulation}, but an epoch has fewer batches of "
            f"{config.batch_size} events. Lower one of the two.",
            "accumulation",
        )
    model.check_rows(config.rows, config.batch_size, rows.rows_of_batch)


def _check_distribution(
    model: TrainableRecommender, data: Interactions | StreamedInteractions, config: TrainingConfig
) -> None:
    """Refuses what the chosen distribution cannot do."""
    if config.distribute == "none":
        return
    if model.distribute_strategy is not distribution_strategy(config.distribute):
        raise ValueError(
            f"`distribute`={config.distribute!r}, but the model was made in another scope. Make it "
            "within `distribution.distribution_strategy(...).scope()`, as `tfrec_meta.train` does."
        )
    if model.training_only():
        raise ValueError(
            f"`distribute`={config.distribute!r}, but the model keeps earlier batches in memory, "
            "which replicas cannot share. Use `memory`=0 and another `logq` than 'streaming'."
        )
    if config.distribute == "parameter_server" and isinstance(data, StreamedInteractions):
        raise ValueError(
            "`distribute`='parameter_server' cannot read streamed events: only the coordinating "
            "process has them. Use 'multi_worker', or read the events into memory."
        )


@contextlib.contextmanager
def _bfloat16() -> Iterator[None]:
    """TensorFlow's graph optimizer turns matrix products to bfloat16; variables stay float32."""
    option = "auto_mixed_precision_onednn_bfloat16"
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})
