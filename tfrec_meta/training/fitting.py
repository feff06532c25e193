"""Training: events in, fitted model and learning curve out; seeded, resumable, early stopping."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import math
import numbers
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrec_meta.data import Interactions, StreamedInteractions
from tfrec_meta.evaluation import full_catalogue
from tfrec_meta.evaluation import metrics as metric
from tfrec_meta.evaluation.objectives import Objective
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import event_queries, held_out
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.base.composite import Composite
from tfrec_meta.models.base.contract import Recommender, Teacher
from tfrec_meta.models.base.step import StepOptions
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.models.families.ensemble import Ensemble
from tfrec_meta.models.families.two_tower import TwoTower
from tfrec_meta.training.distribution import (
    Distribute,
    agreed,
    distribution_strategy,
    is_chief,
    shared,
)
from tfrec_meta.training.optimizers import LazyAdagrad, LazyAdam, LazyAdamW, RowWiseAdagrad
from tfrec_meta.training.streamed_rows import StreamedRows
from tfrec_meta.training.user_events import RowOptions, UserEvents, digest_of
from tfrec_meta.training.user_windows import UserWindows

_log = logging.getLogger(__name__)
Curve = list[dict[str, float]]
OnEpoch = Callable[[Recommender, Mapping[str, float]], None]
"""on_epoch(model, line): told of each epoch, when all of it is done, with its line of the curve;
what it raises ends the training."""
OptimizerName = Literal[
    "auto", "adamw", "lazy_adamw", "lazy_adam", "adagrad", "lazy_adagrad", "row_wise_adagrad"
]
# Rows from which "auto" is lazy. A step of the default two-tower model, dimension 32, batch 512, of
# 10,000, 100,000 and 1,000,000 items took AdamW 19, 46 and 314 ms, and LazyAdamW 16, 17 and 23.
_LARGE_TABLE = 100_000
_VALIDATION_USERS = 20_000  # enough for a figure to choose by; all of a large data set take long


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The training recipe; the shape of the model is in the model's own config.

    Args:
        epochs: passes over the events; the learning rate rises over the first twentieth of the
            steps and falls along a cosine to 0 at the last.
        batch_size: events a step, which are each other's negatives.
        rows: what a training row is: "events", each with a history of its own, or "windows" of
            `history_length` events of a user, each predicted from those before it in the window.
            The latter is how order-aware encoders are trained in little time.
        optimizer: "adamw" or "adagrad", tf_keras's own; of `tfrec_meta.training.optimizers`
            "lazy_adamw", "lazy_adam", "lazy_adagrad" or "row_wise_adagrad", which touch a batch's
            "lazy_adamw", "lazy_adam", "lazy_adagrad" or "row_wise_adagrad", which update only the
            rows of a table that are in the batch;
        learning_rate: of the optimizer, at its peak.
        weight_decay: decoupled, times the learning rate (Loshchilov and Hutter, ICLR 2019); of
            "adamw" and "lazy_adamw" alone.
        history: "earlier" takes the user's strictly earlier events, as at serving time;
            "leave_one_out" any other events, for data whose time order means nothing; "auto" is
            "leave_one_out" for the `sampled` events of a random split, and "earlier" otherwise.
        history_length: items of a query's history in training: the latest, or with
            "leave_one_out" a new sample each epoch. At most the FeatureSpec's.
        history_dropout: share of these left out of a query at random, in [0, 1).
        user_dropout: share of queries whose user id is hidden, so that unknown users are met in
            training, in [0, 1).
        user_balance: each event weighs (events of its user) ** -user_balance, so that a few busy
            users don't drown the rest; 0 for equal weights.
        history_crop: share of the rows whose history is cut to a random run of its items.
        history_reorder: share of the rows of whose history a random run is in random order (both by
            Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022).
        accumulation: batches whose gradients make one step, for large steps in little memory.
        l2: penalty of half of it times the squares of the weights, biases left out; of embeddings
            that are looked up, the rows of the batch alone. `weight_decay` is not part of the loss.
        adversarial_weight: of the loss under the worst small change of the embeddings (He et al.,
            "Adversarial Personalized Ranking", SIGIR 2018); 0 for none. A step takes twice as long.
        adversarial_size: length of that change, a row.
        average_decay: of a running mean of the weights, which validation and the finished model
            use; 0 for none, else in [0, 1), as .99. It starts at the first weights.
        mixed_precision: whether TensorFlow may do matrix products in bfloat16.
        jit_compile: whether XLA compiles the step.
        distribute: "mirrored" shares each batch among the GPUs of this machine, "multi_worker"
            among those of several, and with "parameter_server" workers train at their own pace; the
            latter two read TF_CONFIG. In-batch negatives are those of a replica's part.
        patience: epochs without a better figure on validation (NDCG@10; of a model of ratings or
            clicks RMSE or AUC) before training stops; 0 never stops.
        seed: of the order of events and dropout, and in `tfrec_meta.train` of initial values.
    """

    epochs: int = 8
    batch_size: int = 512
    rows: Literal["events", "windows"] = "events"
    optimizer: OptimizerName = "auto"
    learning_rate: float = 0.005
    weight_decay: float = 0.1
    history: Literal["auto", "earlier", "leave_one_out"] = "auto"
    history_length: int = 100
    history_dropout: float = 0.0
    user_dropout: float = 0.1
    user_balance: float = 0.5
    history_crop: float = 0.0
    history_reorder: float = 0.0
    accumulation: int = 1
    l2: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_size: float = 0.1
    average_decay: float = 0.0
    mixed_precision: bool = False
    jit_compile: bool = False
    distribute: Distribute = "none"
    patience: int = 3
    seed: int = 42

    def __post_init__(self) -> None:
        # A batch of one event has no negatives, so its loss is 0 whatever the model.
        least = {"epochs": 1, "batch_size": 2, "history_length": 1, "accumulation": 1}
        least |= {"patience": 0, "seed": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < minimum:
                raise ValueError(f"`{name}`={value!r}; use a whole number, {minimum} or more.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"`learning_rate`={self.learning_rate}; use a number above 0.")
        numbers_from_0 = ("weight_decay", "user_balance", "l2", "adversarial_weight")
        for name in (*numbers_from_0, "adversarial_size"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 0 or more.")
        for name in ("history_dropout", "user_dropout", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use a share in [0, 1).")
        for name in ("history_crop", "history_reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use a share in [0, 1].")
        if self.history not in ("auto", "earlier", "leave_one_out"):
            raise ValueError(
                f"`history`={self.history!r}; use 'auto', 'earlier' or 'leave_one_out'."
            )
        if self.rows not in ("events", "windows"):
            raise ValueError(f"`rows`={self.rows!r}; use 'events' or 'windows'.")
        if self.optimizer not in get_args(OptimizerName):
            raise ValueError(
                f"`optimizer`={self.optimizer!r}; use one of {get_args(OptimizerName)}."
            )
        if self.average_decay and self.optimizer not in ("auto", "adamw", "adagrad"):
            raise ValueError(
                f"`average_decay`={self.average_decay} averages whole tables at each step, and "
                f"`optimizer`={self.optimizer!r} touches rows alone. Use 0, or 'adamw'."
            )
        if self.distribute not in get_args(Distribute):
            raise ValueError(
                f"`distribute`={self.distribute!r}; use one of {get_args(Distribute)}."
            )
        if self.adversarial_weight and self.distribute != "none":
            raise ValueError(
                f"`adversarial_weight`={self.adversarial_weight} changes embeddings within a step, "
                f"which replicas can't (`distribute`={self.distribute!r}). Use 0, or 'none'."
            )
        if self.rows == "windows" and self.history == "leave_one_out":
            raise ValueError(
                "`rows`='windows' predicts each event from earlier ones, and `history`="
                "'leave_one_out' from any others. Use 'earlier' or 'auto'."
            )


def train(
    model: TrainableRecommender,
    data: Interactions | StreamedInteractions,
    validation: Interactions | Validation | None = None,
    config: TrainingConfig = TrainingConfig(),
    folder: Path | str | None = None,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
    progress: bool = True,
    warm_start: Recommender | None = None,
    teacher: Teacher | None = None,
    on_epoch: OnEpoch | None = None,
) -> Curve:
    """Trains `model` in place.

    With `folder`, each epoch leaves a checkpoint, TensorBoard logs and `history.jsonl`; the same
    call after a kill goes on from the last finished epoch, and ends with the same weights.

    Args:
        model: a freshly made model.
        data: training events; those with unknown users or items teach nothing of them.
        validation: later or held-out events, for early stopping; the best epoch's weights win. Or
            what `Validation` made of them, which several trainings may share.
        config: the recipe.
        folder: where checkpoints and logs live.
        callbacks: further tf_keras callbacks.
        progress: whether to show a progress bar (plain lines where there is no terminal).
        warm_start: an earlier model of the same family and shape, whose weights the training
            begins with, rows matched by token.
        teacher: a fitted model, or another `Teacher`, whose knowledge is learned, too.
        on_epoch: see `OnEpoch`; of a training that goes on, the epochs that are left. Where several
            processes train, it is called in each, and all have to end together.

    Returns:
        One dict an epoch: epoch, loss, seconds, and with validation the metrics, "val_" before.

    Raises:
        ValueError: if there is no event of a known item, the loss is no longer finite, the model
            was not made in the scope that the recipe asks for or can't learn from that teacher, or
            `folder` holds a run of another config, other data, other features, another warm start
            or another teacher.
    """
    if config.history == "auto":
        history: Any = "leave_one_out" if data.sampled and config.rows == "events" else "earlier"
        config = dataclasses.replace(config, history=history)
    events = _rows(data, model, config)
    if not events.steps:
        raise ValueError(
            f"`accumulation`={config.accumulation}, but an epoch has fewer batches of "
            f"{config.batch_size} events. Lower one of the two."
        )
    if (
        config.rows == "windows"
        and isinstance(model, TwoTower)
        and model.config.negatives == "in_batch"
        and model.config.mask_positives
        and not model.config.memory
        and events.rows_of_batch == 1
    ):
        raise ValueError(
            f"`batch_size`={config.batch_size} is one window of a user, whose own items are no "
            "negatives: there would be nothing to learn from. Use twice the window, or more."
        )
    model.prepare(data)
    if warm_start is not None:
        model.warm_start(warm_start)
    if teacher is not None:
        model.teach(teacher)
    model.step_options = StepOptions(
        config.accumulation,
        config.l2,
        config.adversarial_weight,
        config.adversarial_size,
        config.jit_compile,
    )
    strategy = model.distribute_strategy
    if config.distribute != "none" and strategy is not distribution_strategy(config.distribute):
        raise ValueError(
            f"`distribute`={config.distribute!r}, but the model was made in another scope. Make it "
            "within `distribution.distribution_strategy(...).scope()`, as `tfrec_meta.train` does."
        )
    if config.distribute != "none" and model.training_only():
        raise ValueError(
            f"`distribute`={config.distribute!r}, but the model remembers earlier batches, which "
            "replicas can't share. Use `memory`=0 and another `logq` than 'streaming'."
        )
    if config.distribute == "parameter_server" and isinstance(data, StreamedInteractions):
        raise ValueError(
            "Streamed events are read by the process that trains, and `distribute`="
            "'parameter_server' has others do so. Use 'multi_worker', or events in memory."
        )
    with strategy.scope():
        optimizer = _optimizer(config, config.epochs * events.steps, model)
        model.compile(
            optimizer=optimizer,
            steps_per_execution=max(1, min(16, events.steps // 4)),
            jit_compile=config.jit_compile,
        )
        optimizer.build(model.trainable_variables)

    digests = {
        "events": events.digest,
        "warm_start": _digest_of_model(warm_start),
        "teacher": _digest_of_model(teacher),
    }
    course = _Course(model, optimizer, data, validation, config, folder, digests)
    if course.epoch < config.epochs and not course.stopped:
        logs = [tf_keras.callbacks.TensorBoard(str(course.folder / "tensorboard"))] * bool(folder)
        bar = [_Progress(config.epochs, events.steps)] * progress
        shown = [*logs, *bar] if is_chief(strategy) else []
        told = [_Told(course, on_epoch)] if on_epoch is not None else []
        batches, axis = partial(events.batches, course.epoch), int(config.accumulation > 1)
        with _bfloat16() if config.mixed_precision else contextlib.nullcontext():
            model.fit(
                shared(batches, strategy, events.rows_of_batch, axis),
                initial_epoch=course.epoch,
                epochs=config.epochs,
                steps_per_epoch=events.steps,
                callbacks=[course, *shown, *callbacks, *told],
                verbose=0,
            )
    course.finish()
    return course.curve


def _optimizer(
    config: TrainingConfig, steps: int, model: TrainableRecommender
) -> tf_keras.optimizers.Optimizer:
    rate = _learning_rate(config.learning_rate, steps)
    tables = [table for table, _ in model.rows_of_tokens().values() if table.shape.rank == 2]
    name = config.optimizer
    if name == "auto":
        large = any(table.shape[0] >= _LARGE_TABLE for table in tables)
        name = "lazy_adamw" if large and not config.average_decay else "adamw"
    if name == "lazy_adam":
        return LazyAdam(rate)
    if name == "lazy_adagrad":
        return LazyAdagrad(rate)
    if name == "row_wise_adagrad":
        return RowWiseAdagrad(rate, tables=[table.name for table in tables])
    if name == "lazy_adamw":
        optimizer = LazyAdamW(rate, config.weight_decay)
    else:
        average = {
            "use_ema": config.average_decay > 0,
            "ema_momentum": config.average_decay,
            "ema_overwrite_frequency": None,
        }
        if name == "adagrad":
            return tf_keras.optimizers.Adagrad(rate, **average)
        optimizer = tf_keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **average)
    # A bias that decays would forget how popular its item is; tasks' weights would become equal.
    optimizer.exclude_from_weight_decay(var_names=["item_bias", "task_weights"])
    return optimizer


@contextlib.contextmanager
def _bfloat16() -> Iterator[None]:
    """TensorFlow's graph optimizer puts matrix products into bfloat16, variables stay float32."""
    option = "auto_mixed_precision_onednn_bfloat16"
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})


def _learning_rate(peak: float, steps: int) -> tf_keras.optimizers.schedules.LearningRateSchedule:
    """Rises to `peak` over the first twentieth of the steps, then falls along a cosine to 0."""
    rise = steps // 20
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=peak, warmup_steps=rise
    )


def _rows(
    data: Interactions | StreamedInteractions, model: TrainableRecommender, config: TrainingConfig
) -> UserEvents | UserWindows | StreamedRows:
    """The training rows: `steps`, `batches(epoch)` and `digest`."""
    length = min(config.history_length, model.spec.history_length)
    windows = config.rows == "windows"
    if windows and isinstance(model, TwoTower) and model.history_encoder is not None:
        length = min(length, model.config.encoder_length)
    names = {field.name for field in dataclasses.fields(RowOptions)}
    recipe = {name: getattr(config, name) for name in names}
    options = RowOptions(**{**recipe, "history_length": length})
    kind: type[UserEvents] | type[UserWindows] = UserWindows if windows else UserEvents
    if isinstance(data, StreamedInteractions):
        return StreamedRows(kind, data, model.spec, options)
    return kind.of(data, model.spec, options)


class _Course(tf_keras.callbacks.Callback):
    """The course of one training: validation, early stopping, checkpoints and the curve."""

    def __init__(
        self,
        model: TrainableRecommender,
        optimizer: tf_keras.optimizers.Optimizer,
        data: Interactions | StreamedInteractions,
        validation: Interactions | Validation | None,
        config: TrainingConfig,
        folder: Path | str | None,
        digests: Mapping[str, str | None],
    ):
        super().__init__()
        self.trained = model
        self.optimizer = optimizer
        self.config = config
        self.validation = None
        if validation is not None and len(validation):
            asking = validation
            if isinstance(asking, Interactions):
                asking = Validation(model.spec, data, asking, config.seed)
            if asking.has_answers:
                self.validation = asking
            else:
                _log.warning("No validation event has an item of the catalogue: no early stopping.")
        self.curve: Curve = []
        self.best: tuple[float, int, list[np.ndarray]] | None = None
        self.strategy = model.distribute_strategy
        self.folder = self.kept = Path(folder) if folder is not None else Path()
        self.manager = None
        if folder is not None:
            known = (*model.user_table.values(), *model.item_table.values())
            tables = digest_of(*(variable.numpy() for variable in known))
            self._check_same_run(
                {**digests, "tables": tables, "validation": digest_of_events(validation)}
            )
            self.record = tf.Variable("{}", dtype=tf.string)
            if not is_chief(self.strategy):
                # To read what replicas hold takes all workers, and so all save, but one for good.
                self._own = tempfile.TemporaryDirectory(prefix="tfrec-meta-worker-")
                self.kept = Path(self._own.name)
            last = tf.train.Checkpoint(model=model, optimizer=optimizer, record=self.record)
            # The weights alone: by way of the model, reading it would turn the optimizer back too.
            self.best_checkpoint = tf.train.Checkpoint(weights=model.weights)
            self.manager = tf.train.CheckpointManager(last, str(self.kept / "checkpoints"), 2)
            latest = tf.train.latest_checkpoint(str(self.folder / "checkpoints"))
            if latest:
                self._resume(last, latest)

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.curve)

    @property
    def stopped(self) -> bool:
        """Whether patience has run out."""
        if self.best is None or not self.config.patience:
            return False
        return self.epoch - self.best[1] >= self.config.patience

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs if logs is not None else {}
        loss = float(logs.get("loss", math.nan))
        if not math.isfinite(loss):
            raise ValueError(
                f"The loss of epoch {epoch + 1} is {loss}. Lower `learning_rate` "
                f"({self.config.learning_rate}) or raise the temperature."
            )
        record = {"epoch": epoch + 1, "loss": loss}
        if self.validation is not None:
            with self._averaged():
                record |= agreed(self.strategy, self.validation.metrics(self.trained))
                value = _selection_score(self.trained, record)
                if self.best is None or value > self.best[0]:
                    self.best = (value, epoch + 1, self.trained.get_weights())
                    if self.manager is not None:
                        self.best_checkpoint.write(self._best_path(self.kept, epoch + 1))
            logs.update({k: v for k, v in record.items() if k.startswith("val_")})
        record["seconds"] = time.perf_counter() - self._began
        self.curve.append(record)
        if self.manager is not None:
            best = None if self.best is None else self.best[1]
            self.record.assign(json.dumps({"curve": self.curve, "best": best}))
            lines = "".join(json.dumps(line) + "\n" for line in self.curve)
            write_whole(self.kept / "history.jsonl", lines)
            self.manager.save()
            # Only now: until the record was saved, a kill would go back to the best one before.
            for path in (self.kept / "checkpoints").glob("best-*"):
                if not path.name.startswith(f"best-{best}."):
                    path.unlink()
        if self.stopped:
            self.model.stop_training = True

    def finish(self) -> None:
        """Leaves the model with the weights of its best epoch."""
        if self.best is not None:
            self.trained.set_weights(self.best[2])
        elif self.config.average_decay:
            self.optimizer.finalize_variable_values(self.trained.trainable_variables)
        self.trained.refresh()

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within it the model has the running mean of its weights, if the recipe keeps one."""
        if not self.config.average_decay:
            yield
            return
        variables = self.trained.trainable_variables
        last = [variable.numpy() for variable in variables]
        self.optimizer.finalize_variable_values(variables)
        yield
        for variable, value in zip(variables, last, strict=True):
            variable.assign(value)

    @staticmethod
    def _best_path(folder: Path, epoch: int) -> str:
        return str(folder / "checkpoints" / f"best-{epoch}")

    def _resume(self, last: tf.train.Checkpoint, path: str) -> None:
        last.restore(path).assert_existing_objects_matched()
        record = json.loads(self.record.numpy())
        self.curve = record["curve"]
        if record["best"] is not None:
            now = self.trained.get_weights()
            read = self.best_checkpoint.read(self._best_path(self.folder, record["best"]))
            read.assert_existing_objects_matched()
            value = _selection_score(self.trained, self.curve[record["best"] - 1])
            self.best = (value, record["best"], self.trained.get_weights())
            self.trained.set_weights(now)

    def _check_same_run(self, digests: Mapping[str, str | None]) -> None:
        """Refuses to go on with a run that was begun with other settings, data or features."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "run.json"
        spec = self.trained.spec
        record = {
            "training": dataclasses.asdict(self.config),
            "model": dataclasses.asdict(self.trained.config),
            "features": {
                **spec.declaration(),
                "statistics": spec.statistics,
                "vocabularies": {
                    key: digest_of("\n".join(vocabulary.tokens.to_pylist()).encode())
                    for key, vocabulary in spec.vocabularies.items()
                },
            },
            "data": dict(digests),
        }
        record = json.loads(json.dumps(record))
        if not path.exists():
            if is_chief(self.strategy):
                write_whole(path, json.dumps(record, indent=1))
            return
        before = json.loads(path.read_text())
        changed = [
            f"{part}.{key}"
            for part, values in record.items()
            for key, value in values.items()
            if before.get(part, {}).get(key) != value
        ]
        if changed:
            raise ValueError(
                f"{self.folder} holds a run with other settings ({', '.join(changed)}). "
                "Use another folder, or remove that one to start anew."
            )


def _digest_of_model(model: Recommender | Teacher | None) -> str | None:
    """Tells one model from another."""
    if model is None:
        return None
    members = model.members if isinstance(model, Composite) else ()
    inner = [str(_digest_of_model(member)).encode() for member in members]
    return digest_of(*model.state().values(), *inner)


def digest_of_events(data: Interactions | Validation | None) -> str:
    """Tells one list of events from another."""
    if data is None or not len(data):
        return ""
    if isinstance(data, Validation):
        data = data.events
    tokens = "\n".join([*data.user_ids, *data.item_ids]).encode()
    times = () if data.times is None else (data.times,)
    value = data.events["value"].to_numpy()
    return digest_of(tokens, data.user_codes, data.item_codes, value, *times)


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is either as it was or complete, whenever the process dies."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def _selection_score(model: Recommender, record: Mapping[str, float]) -> float:
    """The model's objective in a line of its curve, as a score to be maximised."""
    return model.objective.score(record[model.objective])


class Validation:
    """How good a model is on held-out events, by what it is made for.

    NDCG@10 and recall@10 over the full catalogue; of a model that predicts ratings or clicks their
    RMSE or AUC, event by event, and the former only if it is chosen by it. Of more than
    `_VALIDATION_USERS` users a sample is asked, the same in each epoch.

    Args:
        spec: a fitted spec, of all models that are to be asked.
        data: the training events, which are known.
        validation: what is to be found.
        seed: of the sample.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        data: Interactions | StreamedInteractions,
        validation: Interactions,
        seed: int,
    ):
        self.events = validation
        users = validation.user_ids
        if len(users) > _VALIDATION_USERS:
            users = np.random.default_rng(seed).choice(users, _VALIDATION_USERS, replace=False)
        self._spec = spec
        self._past = data if isinstance(data, Interactions) else data.of_users(users)
        self.asked = held_out(spec, self._past, validation, users)
        self.has_answers = self.asked.relevant.nnz > 0  # else every model would score 0

    def __len__(self) -> int:
        return len(self.events)

    def metrics(self, model: Recommender) -> dict[str, float]:
        """`val_ndcg@10` and `val_recall@10`, `val_rmse`, `val_auc`: those that a model has."""
        if isinstance(model, TrainableRecommender):
            model.refresh()
        found = self._of_predictions(model) if model.targets else {}
        return found | (self._of_ranking(model) if model.objective is Objective.NDCG else {})

    def _of_ranking(self, model: Recommender) -> dict[str, float]:
        result = full_catalogue(
            lambda rows: model.score({k: v[rows] for k, v in self.asked.queries.items()}),
            self.asked.relevant,
            self.asked.seen,
            k=min(10, model.spec.catalogue_size),
            metrics=("ndcg", "recall"),
            extra_relevant=self.asked.outside,
            resamples=0,
        )
        return {
            f"val_{name.split('@')[0]}@10": estimate.value
            for name, estimate in result.metrics.items()
        }

    def _of_predictions(self, model: Recommender) -> dict[str, float]:
        queries, items, value = self._single_events
        found = model.predict_events(queries, items)
        figures = {}
        if "rating" in found:
            figures[Objective.RMSE] = metric.rmse(value, found["rating"])
        if "click" in found:
            clicks = value >= model.config.click_threshold
            figures[Objective.AUC] = metric.binary_auc(clicks, found["click"])
        return figures

    @functools.cached_property
    def _single_events(self) -> tuple[Mapping[str, np.ndarray], np.ndarray, np.ndarray]:
        asked = np.isin(self.events.user_ids.astype(str), self.asked.users.astype(str))
        events = self.events.take(np.flatnonzero(asked[self.events.user_codes]))
        queries, items = event_queries(self._spec, self._past, events)
        return queries, items, events.events["value"].to_numpy()


class _Progress(tf_keras.callbacks.Callback):
    """A tqdm bar on a terminal, a line an epoch elsewhere."""

    _supports_tf_logs = True  # reads no figures of a batch, which parameter servers don't give

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
        told = ("loss", self.model.objective)
        shown = {k: f"{v:.4f}" for k, v in (logs or {}).items() if k in told}
        self._bar.set_postfix(shown)
        self._bar.close()
        if self._bar.disable:
            text = ", ".join(f"{key} {value}" for key, value in shown.items())
            print(f"epoch {epoch + 1}/{self._epochs}: {text}", file=sys.stderr, flush=True)


class _Told(tf_keras.callbacks.Callback):
    """Tells `on_epoch` of each epoch, after its checkpoint was kept."""

    _supports_tf_logs = True  # reads no figures of a batch, which parameter servers don't give

    def __init__(self, course: _Course, on_epoch: OnEpoch):
        super().__init__()
        self._course, self._on_epoch = course, on_epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._on_epoch(self._course.trained, self._course.curve[-1])


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow."""
    tf_keras.utils.set_random_seed(seed)


def fit(
    model: Recommender,
    data: Interactions | StreamedInteractions,
    validation: Interactions | Validation | None = None,
    config: TrainingConfig = TrainingConfig(),
    folder: Path | str | None = None,
    progress: bool = True,
    warm_start: Recommender | None = None,
    teacher: Teacher | None = None,
    on_epoch: OnEpoch | None = None,
) -> Curve:
    """Fits any family: by `train`, or in closed form, which needs only the data: no curve, and
    nothing to tell `on_epoch`.

    Raises:
        ValueError: as `train` does; for a warm start or a teacher of a closed form; and for an
            ensemble that is to choose its weights on a validation that there is not.
        TypeError: for streamed events and a closed form.
    """
    if isinstance(model, TrainableRecommender):
        return train(
            model, data, validation, config, folder, (), progress, warm_start, teacher, on_epoch
        )
    if isinstance(data, StreamedInteractions) and not isinstance(model, Composite):
        raise TypeError(
            f"Family {model.family!r} is solved from all events at once, and these are streamed. "
            "Read them with `read_interactions`, or train a family that learns by steps."
        )
    if warm_start is not None:
        model.warm_start(warm_start)
    if teacher is not None:
        model.teach(teacher)
    model.fit(data)
    if isinstance(model, Ensemble) and model.config.weights == "validation":
        asking = validation
        if isinstance(asking, Interactions) and len(asking):
            asking = Validation(model.spec, data, asking, config.seed)
        if not isinstance(asking, Validation) or not asking.has_answers:
            raise ValueError(
                "`weights`='validation', but no validation event has an item of the catalogue. "
                "Give `validation`, or set the weights."
            )
        model.choose_weights(lambda: asking.metrics(model)[Objective.NDCG])
    return []
