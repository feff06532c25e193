"""The time that training needs to reach the quality of TFRS's retrieval tutorial.

Two measurements, in both cases alternating between the two sides, medians of interleaved rounds:

1. Wall time from events in memory to a trained and validated model of equal or better top-100
   accuracy. The tutorial: users and films by id, dimension 32, Adagrad 0.1, batches of 8192, 3
   epochs over 80 % of the events, `FactorizedTopK` on the other 20 %, seen items not removed. Its
   metrics are computed in validation only, after each epoch (`speedup_to_equal_quality`), or once
   after the last, which is fastest (`speedup_validating_once`). Ours: the two-tower model of that
   dimension, with as little training as is needed, chosen on a tenth of the training events: one
   epoch over windows of users' events; validated by `true_candidate_ranks` on the same events,
   nothing removed. Tracing, vocabularies and the input pipeline count on both sides.
2. Examples per second of training alone, without metrics: the same model (user id, item id,
   dimension 32), optimizer (Adagrad 0.1) and batch (8192), without tracing and a first epoch.

Both run in one process, after each was traced once before, since the first function in a process
pays for TensorFlow's start.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

import tfrec_meta as tm
from benchmarks.arguments import finish, load, parse
from tfrec_meta.evaluation import top_k_accuracy, true_candidate_ranks
from tfrec_meta.features.held_out import user_queries

DIMENSION = 32
BATCH = 8192
EPOCHS = 3
K = 100


class Tutorial(tfrs.Model):
    """Users and items by id; the metrics of `candidates` in validation alone."""

    def __init__(self, users: np.ndarray, items: np.ndarray, candidates: bool = True):
        super().__init__()
        self.query_tower = self._tower(users)
        self.item_tower = self._tower(items)
        metrics = None
        if candidates:
            catalogue = tf.data.Dataset.from_tensor_slices(items.astype(str))
            metrics = tfrs.metrics.FactorizedTopK(catalogue.batch(128).map(self.item_tower))
        self.task = tfrs.tasks.Retrieval(metrics=metrics)

    @staticmethod
    def _tower(names: np.ndarray) -> Any:
        lookup = tf.keras.layers.StringLookup(vocabulary=names.astype(str), mask_token=None)
        return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(names) + 1, DIMENSION)])

    def compute_loss(self, features: dict[str, Any], training: bool = False) -> Any:
        return self.task(
            self.query_tower(features["user"]),
            self.item_tower(features["item"]),
            compute_metrics=not training,
        )


def dataset_of(data: tm.Interactions) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(
        {
            "user": data.user_ids[data.user_codes].astype(str),
            "item": data.item_ids[data.item_codes].astype(str),
        }
    )


def train_tutorial(split: tm.Split, each_epoch: bool) -> float:
    """Trains as the tutorial does; its top-100 accuracy in validation."""
    whole = np.unique(np.concatenate([split.train.item_ids, split.test.item_ids]))
    model = Tutorial(split.train.user_ids, whole)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    train = dataset_of(split.train).shuffle(len(split.train)).batch(BATCH).cache()
    test = dataset_of(split.test).batch(4096).cache()
    if each_epoch:
        fitted = model.fit(train, validation_data=test, epochs=EPOCHS, verbose=0)
        return fitted.history[f"val_factorized_top_k/top_{K}_categorical_accuracy"][-1]
    model.fit(train, epochs=EPOCHS, verbose=0)
    found = model.evaluate(test, return_dict=True, verbose=0)
    return found[f"factorized_top_k/top_{K}_categorical_accuracy"]


def our_strategy(seed: int) -> tm.Strategy:
    """One epoch over windows of users' events, in the tutorial's dimension."""
    return tm.Strategy(
        model=tm.TwoTowerConfig(embedding_dim=DIMENSION, item_features=False, mask_positives=False),
        training=tm.TrainingConfig(
            epochs=1, batch_size=2048, rows="windows", history_length=100, seed=seed
        ),
        features=tm.FeatureSpec(history_length=200),
    )


def train_ours(split: tm.Split, strategy: tm.Strategy) -> float:
    """Trains and validates; top-100 accuracy."""
    model = tm.train(split.train, strategy, progress=False)
    users = split.test.user_ids
    queries = model.embed_query(
        {k: tf.constant(v) for k, v in user_queries(model.spec, split.train, users).items()}
    )
    rows = model.spec.items.encode(split.test.events["item_id"])
    known = rows > 0  # an item that training never met is not in the catalogue: not found
    ranks = true_candidate_ranks(
        queries.numpy(),
        model.item_index[1:].numpy(),
        rows[known] - 1,
        split.test.user_codes[known],
    )
    return top_k_accuracy(ranks, (K,))[K] * known.mean()


def tutorial_epoch(split: tm.Split) -> Callable[[], float]:
    """Seconds of one epoch of the tutorial's training alone."""
    model = Tutorial(split.train.user_ids, split.train.item_ids, candidates=False)
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    train = dataset_of(split.train).shuffle(len(split.train)).batch(BATCH).cache()
    model.fit(train, epochs=1, verbose=0)

    def epoch() -> float:
        began = time.perf_counter()
        model.fit(train, epochs=1, verbose=0)
        return time.perf_counter() - began

    return epoch


def our_seconds_an_epoch(split: tm.Split, seed: int) -> list[float]:
    """Seconds of each epoch but the first, of the tutorial's model."""
    strategy = tm.Strategy(
        model=tm.TwoTowerConfig(
            embedding_dim=DIMENSION,
            encoder="none",
            user_id=True,
            item_features=False,
            popularity_bias=False,
            normalise=False,
            temperature=1.0,
            mask_positives=False,
            logq="none",
        ),
        training=tm.TrainingConfig(
            epochs=3,
            batch_size=BATCH,
            learning_rate=0.1,
            optimizer="adagrad",
            user_dropout=0.0,
            user_balance=0.0,
            seed=seed,
        ),
        features=tm.FeatureSpec(),
    )
    model = tm.train(split.train, strategy, progress=False)
    return [line["seconds"] for line in model.curve[1:]]


def timed(way: Callable[[], float]) -> tuple[float, float]:
    """Seconds, and what came out."""
    gc.collect()
    began = time.perf_counter()
    found = way()
    return time.perf_counter() - began, found


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(__doc__ or "", argv)
    tf.keras.utils.set_random_seed(arguments.seed)
    data = load(arguments.data)
    split = tm.split_by_user(data, train=0.8, seed=arguments.seed)
    rounds = 1 if arguments.quick else 3
    strategy = our_strategy(arguments.seed)
    ways = {
        "tutorial": lambda: train_tutorial(split, each_epoch=False),
        "tutorial_each_epoch": lambda: train_tutorial(split, each_epoch=True),
        "ours": lambda: train_ours(split, strategy),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            took, accuracy = timed(way)
            if number:  # the first round is of TensorFlow's start
                seconds[name].append(took)
                found[name].append(accuracy)
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    accuracy = {name: float(np.median(values)) for name, values in found.items()}

    epoch, theirs, mine = tutorial_epoch(split), [], []
    for _ in range(rounds):
        theirs += [epoch(), epoch()]
        mine += our_seconds_an_epoch(split, arguments.seed)
    examples = len(split.train)
    ours_rate, tutorial_rate = (examples / float(np.median(s)) for s in (mine, theirs))

    print(f"{data.name}: {examples:,} training events, medians of {rounds} interleaved rounds")
    print(f"{'':<44}{'seconds':>9}{f'top-{K} accuracy':>20}")
    for name, label in (
        ("tutorial", "tutorial, validating after the last epoch"),
        ("tutorial_each_epoch", "tutorial, validating after each epoch"),
        ("ours", "ours"),
    ):
        print(f"{label:<44}{middle[name]:>9.2f}{accuracy[name]:>20.4f}")
    print(f"examples a second: tutorial {tutorial_rate:,.0f}, ours {ours_rate:,.0f}")
    finish(
        {
            "speedup_to_equal_quality": middle["tutorial_each_epoch"] / middle["ours"],
            "speedup_validating_once": middle["tutorial"] / middle["ours"],
            "examples_per_second_ratio": ours_rate / tutorial_rate,
            "tutorial_top_100": accuracy["tutorial"],
            "ours_top_100": accuracy["ours"],
            "tutorial_seconds": middle["tutorial"],
            "tutorial_each_epoch_seconds": middle["tutorial_each_epoch"],
            "ours_seconds": middle["ours"],
            "tutorial_examples_per_second": tutorial_rate,
            "ours_examples_per_second": ours_rate,
            "rounds": rounds,
        },
        arguments,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
