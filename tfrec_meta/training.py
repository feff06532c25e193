"""Training: events in, fitted model and learning curve out; seeded, resumable, early stopping."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import numbers
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tfrec_meta.data import Interactions, histories
from tfrec_meta.evaluation import full_catalogue
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import held_out
from tfrec_meta.keras import tf_keras
from tfrec_meta.models.contract import Recommender
from tfrec_meta.models.two_tower import TwoTower
from tfrec_meta.models.user_windows import UserWindows, WindowOptions

import numpy as np
import tensorflow as tf
from tqdm import tqdm

_log = logging.getLogger(__name__)
OBJECTIVE = "val_ndcg@10"
Curve = list[dict[str, float]]
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
        learning_rate: of AdamW, at the start.
        weight_decay: decoupled, times the learning rate (Loshchilov and Hutter, ICLR 2019).
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
        patience: epochs without a better validation NDCG@10 before training stops; 0 never stops.
        seed: of the order of events and dropout, and in `tfrec_meta.train` of initial values.
    """

    epochs: int = 8
    batch_size: int = 512
    rows: Literal["events", "windows"] = "events"
    learning_rate: float = 0.005
    weight_decay: float = 0.1
    history: Literal["auto", "earlier", "leave_one_out"] = "auto"
    history_length: int = 100
    history_dropout: float = 0.0
    user_dropout: float = 0.1
    user_balance: float = 0.5
    patience: int = 3
    seed: int = 42

    def __post_init__(self) -> None:
        # A batch of one event has no negatives, so its loss is 0 whatever the model.
        least = {"epochs": 1, "batch_size": 2, "history_length": 1, "patience": 0, "seed": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < minimum:
                raise ValueError(f"`{name}`={value!r}; use a whole number, {minimum} or more.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"`learning_rate`={self.learning_rate}; use a number above 0.")
        for name in ("weight_decay", "user_balance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"`{name}`={getattr(self, name)}; use 0 or more.")
        for name in ("history_dropout", "user_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}`={getattr(self, name)}; use a share in [0, 1).")
        if self.history not in ("auto", "earlier", "leave_one_out"):
            raise ValueError(
                f"`history`={self.history!r}; use 'auto', 'earlier' or 'leave_one_out'."
            )
        if self.rows not in ("events", "windows"):
            raise ValueError(f"`rows`={self.rows!r}; use 'events' or 'windows'.")
        if self.rows == "windows" and self.history == "leave_one_out":
            raise ValueError(
                "`rows`='windows' predicts each event from earlier ones, and `history`="
                "'leave_one_out' from any others. Use 'earlier' or 'auto'."
            )


def train(
    model: TwoTower,
    data: Interactions,
    validation: Interactions | Validation | None = None,
    config: TrainingConfig = TrainingConfig(),
    folder: Path | str | None = None,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
    progress: bool = True,
    warm_start: Recommender | None = None,
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

    Returns:
        One dict an epoch: epoch, loss, seconds, and with validation the metrics, "val_" before.

    Raises:
        ValueError: if there is no event of a known item, the loss is no longer finite, or `folder`
            holds a run of another config, other data, other features or another warm start.
    """
    if config.history == "auto":
        history: Any = "leave_one_out" if data.sampled and config.rows == "events" else "earlier"
        config = dataclasses.replace(config, history=history)
    events = _rows(data, model, config)
    model.prepare(data)
    if warm_start is not None:
        model.warm_start(warm_start)
    optimizer = tf_keras.optimizers.AdamW(
        _learning_rate(config.learning_rate, config.epochs * events.steps),
        weight_decay=config.weight_decay,
    )
    # A bias that decays would forget how popular its item is.
    optimizer.exclude_from_weight_decay(var_names=["item_bias"])
    model.compile(optimizer=optimizer, steps_per_execution=max(1, min(16, events.steps // 4)))
    optimizer.build(model.trainable_variables)

    begun = None if warm_start is None else _digest(*warm_start.state().values())
    digests = {"events": events.digest, "warm_start": begun}
    course = _Course(model, optimizer, data, validation, config, folder, digests)
    if course.epoch < config.epochs and not course.stopped:
        logs = [tf_keras.callbacks.TensorBoard(str(course.folder / "tensorboard"))] * bool(folder)
        bar = [_Progress(config.epochs, events.steps)] * progress
        model.fit(
            events.batches(course.epoch),
            initial_epoch=course.epoch,
            epochs=config.epochs,
            steps_per_epoch=events.steps,
            callbacks=[course, *logs, *bar, *callbacks],
            verbose=0,
        )
    course.finish()
    return course.curve


def _learning_rate(peak: float, steps: int) -> tf_keras.optimizers.schedules.LearningRateSchedule:
    """Rises to `peak` over the first twentieth of the steps, then falls along a cosine to 0."""
    rise = steps // 20
    return tf_keras.optimizers.schedules.CosineDecay(
        0.0, steps - rise, warmup_target=peak, warmup_steps=rise
    )


def _rows(data: Interactions, model: TwoTower, config: TrainingConfig) -> _Events | UserWindows:
    """The training rows: `steps`, `batches(epoch)` and `digest`."""
    if config.rows == "events":
        return _Events.of(data, model.spec, config)
    length = min(config.history_length, model.spec.history_length)
    if model.history_encoder is not None:
        length = min(length, model.config.encoder_length)
    options = WindowOptions(
        epochs=config.epochs,
        events=config.batch_size,
        length=length,
        history_dropout=config.history_dropout,
        user_dropout=config.user_dropout,
        user_balance=config.user_balance,
        seed=config.seed,
    )
    return UserWindows(data, model.spec, options)


@dataclasses.dataclass
class _Events:
    """Training events as arrays, and the batches that they become.

    They are tensors and not NumPy arrays, since tf.data would write those into its graph, which may
    have 2 GB: 20 million events would be over half of that.
    """

    spec: FeatureSpec
    config: TrainingConfig
    digest: str  # tells one list of events from another
    user: tf.Tensor  # int32 [n]
    item: tf.Tensor  # int32 [n]
    context: Mapping[str, tf.Tensor]
    order: tf.Tensor  # int64 [n], events by user, then time
    first: tf.Tensor  # int64 [n], place in `order` of the user's first event
    stop: tf.Tensor  # int64 [n], one past the place of the last strictly earlier event
    count: tf.Tensor  # int64 [n], events of the user
    weight: tf.Tensor  # float32 [n], mean 1

    @classmethod
    def of(cls, data: Interactions, spec: FeatureSpec, config: TrainingConfig) -> _Events:
        known = np.flatnonzero(spec.items.encode(data.events["item_id"]))
        if not len(known):
            raise ValueError(
                "No training event has an item of the FeatureSpec; fit the spec on this data."
            )
        data = data.take(known)
        past = histories(data)
        user = spec.users.encode(data.events["user_id"])
        item = spec.items.encode(data.events["item_id"])
        context = spec.encode_context(data.events)
        # Events of one user stand together in `order` and share `start`.
        count = np.bincount(past.start, minlength=len(item))[past.start]
        weight = count ** -float(config.user_balance)
        return cls(
            spec,
            config,
            _digest(user, item, past.order, past.stop, *context.values()),
            tf.constant(user),
            tf.constant(item),
            {name: tf.constant(value) for name, value in context.items()},
            tf.constant(past.order),
            tf.constant(past.start),
            tf.constant(past.stop),
            tf.constant(count, tf.int64),
            tf.constant(weight / weight.mean(), tf.float32),
        )

    @property
    def batch_size(self) -> int:
        return min(self.config.batch_size, len(self.item))

    @property
    def history_length(self) -> int:
        return min(self.config.history_length, self.spec.history_length)

    @property
    def steps(self) -> int:
        """Steps an epoch; a last, smaller batch is left out, another one each epoch."""
        return len(self.item) // self.batch_size

    def batches(self, epoch: int) -> tf.data.Dataset:
        """Batches from the start of `epoch` to the end of training, the same at every call."""
        epochs = tf.data.Dataset.range(epoch, self.config.epochs)
        options = tf.data.Options()
        options.deterministic = True
        return epochs.flat_map(self._epoch).with_options(options).prefetch(2)

    def _epoch(self, epoch: tf.Tensor) -> tf.data.Dataset:
        n, seed = len(self.item), tf.stack([tf.constant(self.config.seed, tf.int64), epoch])
        # Draws of their own for each purpose: two draws by one seed would be the same numbers.
        shuffle_seed, place_seed, drop_seed, hide_seed = tf.unstack(
            tf.random.split(seed, num=4), num=4
        )
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(n), shuffle_seed)
        used = tf.reshape(shuffled[: self.steps * self.batch_size], [self.steps, self.batch_size])
        places, order = self._places(place_seed)
        items = tf.gather(self.item, order)

        def assemble(step: tf.Tensor, rows: tf.Tensor) -> dict[str, tf.Tensor]:
            query = {name: tf.gather(values, rows) for name, values in self.context.items()}
            drop = tf.random.fold_in(drop_seed, step)
            query["history"] = self._history(rows, places, items, drop)
            hide = tf.random.stateless_uniform(
                [self.batch_size], tf.random.fold_in(hide_seed, step)
            )
            shown = tf.cast(hide >= self.config.user_dropout, tf.int32)
            query["user_id"] = tf.gather(self.user, rows) * shown
            query["item_id"] = tf.gather(self.item, rows)
            query["sample_weight"] = tf.gather(self.weight, rows)
            return query

        return tf.data.Dataset.from_tensor_slices(used).enumerate().map(assemble)

    def _places(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where each event stands in `order`; for "leave_one_out", an order new in each epoch."""
        n, order = len(self.item), self.order
        if self.config.history == "leave_one_out":
            # Users keep their block, events within it are shuffled: a cyclic window behind an event
            # is then a sample of the user's other events, without replacement.
            block = tf.cast(tf.gather(self.first, order), tf.float64)
            draw = tf.random.stateless_uniform([n], seed, dtype=tf.float64)
            order = tf.gather(order, tf.argsort(block + draw))
        places = tf.scatter_nd(order[:, None], tf.range(n, dtype=tf.int64), [n])
        return places, order

    def _history(
        self, rows: tf.Tensor, places: tf.Tensor, items: tf.Tensor, draw: tf.Tensor
    ) -> tf.Tensor:
        """Item rows int32 [B, H] of the events' histories, after dropout."""
        step = tf.range(self.history_length, dtype=tf.int64)[None, :]
        first = tf.gather(self.first, rows)[:, None]
        if self.config.history == "leave_one_out":
            count = tf.gather(self.count, rows)[:, None]
            length = count - 1
            place = first + (tf.gather(places, rows)[:, None] - first + 1 + step) % count
        else:
            stop = tf.gather(self.stop, rows)[:, None]
            length = tf.minimum(stop - first, self.history_length)
            place = stop - length + step
        shape = [self.batch_size, self.history_length]
        kept = tf.random.stateless_uniform(shape, draw) >= self.config.history_dropout
        last = len(self.item) - 1
        history = tf.gather(items, tf.clip_by_value(place, 0, last))
        if self.config.history == "leave_one_out":  # a repeat would give the answer away
            kept &= history != tf.gather(self.item, rows)[:, None]
        return tf.where((step < length) & kept, history, 0)


class _Course(tf_keras.callbacks.Callback):
    """The course of one training: validation, early stopping, checkpoints and the curve."""

    def __init__(
        self,
        model: TwoTower,
        optimizer: tf_keras.optimizers.Optimizer,
        data: Interactions,
        validation: Interactions | Validation | None,
        config: TrainingConfig,
        folder: Path | str | None,
        digests: Mapping[str, str | None],
    ):
        super().__init__()
        self.trained = model
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
        self.folder = Path(folder) if folder is not None else Path()
        self.manager = None
        if folder is not None:
            known = (*model.user_table.values(), *model.item_table.values())
            tables = _digest(*(variable.numpy() for variable in known))
            self._check_same_run(
                {**digests, "tables": tables, "validation": digest_of_events(validation)}
            )
            self.record = tf.Variable("{}", dtype=tf.string)
            last = tf.train.Checkpoint(model=model, optimizer=optimizer, record=self.record)
            # The weights alone: by way of the model, reading it would turn the optimizer back too.
            self.best_checkpoint = tf.train.Checkpoint(weights=model.weights)
            self.manager = tf.train.CheckpointManager(last, str(self.folder / "checkpoints"), 2)
            if self.manager.latest_checkpoint:
                self._resume(last, self.manager.latest_checkpoint)

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
            record |= self.validation.metrics(self.trained)
            logs.update({k: v for k, v in record.items() if k.startswith("val_")})
        record["seconds"] = time.perf_counter() - self._began
        self.curve.append(record)
        if self.validation is not None and (self.best is None or record[OBJECTIVE] > self.best[0]):
            self.best = (record[OBJECTIVE], self.epoch, self.trained.get_weights())
            if self.manager is not None:
                self.best_checkpoint.write(self._best_path(self.epoch))
        if self.manager is not None:
            best = None if self.best is None else self.best[1]
            self.record.assign(json.dumps({"curve": self.curve, "best": best}))
            lines = "".join(json.dumps(line) + "\n" for line in self.curve)
            write_whole(self.folder / "history.jsonl", lines)
            self.manager.save()
            # Only now: until the record was saved, a kill would go back to the best one before.
            for path in (self.folder / "checkpoints").glob("best-*"):
                if not path.name.startswith(f"best-{best}."):
                    path.unlink()
        if self.stopped:
            self.model.stop_training = True

    def finish(self) -> None:
        """Leaves the model with the weights of its best epoch."""
        if self.best is not None:
            self.trained.set_weights(self.best[2])
        self.trained.refresh_index()

    def _best_path(self, epoch: int) -> str:
        return str(self.folder / "checkpoints" / f"best-{epoch}")

    def _resume(self, last: tf.train.Checkpoint, path: str) -> None:
        last.restore(path).assert_existing_objects_matched()
        record = json.loads(self.record.numpy())
        self.curve = record["curve"]
        if record["best"] is not None:
            now = self.trained.get_weights()
            read = self.best_checkpoint.read(self._best_path(record["best"]))
            read.assert_existing_objects_matched()
            value = self.curve[record["best"] - 1][OBJECTIVE]
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
                    key: _digest("\n".join(vocabulary.tokens.to_pylist()).encode())
                    for key, vocabulary in spec.vocabularies.items()
                },
            },
            "data": dict(digests),
        }
        record = json.loads(json.dumps(record))
        if not path.exists():
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


def _digest(*parts: np.ndarray | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def digest_of_events(data: Interactions | Validation | None) -> str:
    """Tells one list of events from another."""
    if data is None or not len(data):
        return ""
    if isinstance(data, Validation):
        data = data.events
    tokens = "\n".join([*data.user_ids, *data.item_ids]).encode()
    return _digest(tokens, data.user_codes, data.item_codes)


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is either as it was or complete, whenever the process dies."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


class Validation:
    """NDCG@10 and recall@10 on held-out events, over the full catalogue.

    Of more than `_VALIDATION_USERS` users a sample is asked, the same in each epoch.

    Args:
        spec: a fitted spec, of all models that are to be asked.
        data: the training events, which are known.
        validation: what is to be found.
        seed: of the sample.
    """

    def __init__(self, spec: FeatureSpec, data: Interactions, validation: Interactions, seed: int):
        self.events = validation
        users = validation.user_ids
        if len(users) > _VALIDATION_USERS:
            users = np.random.default_rng(seed).choice(users, _VALIDATION_USERS, replace=False)
        self.asked = held_out(spec, data, validation, users)
        self.has_answers = self.asked.relevant.nnz > 0  # else every model would score 0

    def __len__(self) -> int:
        return len(self.events)

    def metrics(self, model: Recommender) -> dict[str, float]:
        """`val_ndcg@10` and `val_recall@10` of a model."""
        if isinstance(model, TwoTower):
            model.refresh_index()
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


class _Progress(tf_keras.callbacks.Callback):
    """A tqdm bar on a terminal, a line an epoch elsewhere."""

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
        shown = {k: f"{v:.4f}" for k, v in (logs or {}).items() if k in ("loss", OBJECTIVE)}
        self._bar.set_postfix(shown)
        self._bar.close()
        if self._bar.disable:
            text = ", ".join(f"{key} {value}" for key, value in shown.items())
            print(f"epoch {epoch + 1}/{self._epochs}: {text}", file=sys.stderr, flush=True)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow."""
    tf_keras.utils.set_random_seed(seed)


def fit(
    model: Recommender,
    data: Interactions,
    validation: Interactions | Validation | None = None,
    config: TrainingConfig = TrainingConfig(),
    folder: Path | str | None = None,
    progress: bool = True,
    warm_start: Recommender | None = None,
) -> Curve:
    """Fits any family: by `train`, or in closed form, which needs only the data: no curve.

    Raises:
        ValueError: as `train` does; and for a warm start of a closed form.
    """
    if isinstance(model, TwoTower):
        return train(model, data, validation, config, folder, (), progress, warm_start)
    if warm_start is not None:
        model.warm_start(warm_start)
    model.fit(data)
    return []
