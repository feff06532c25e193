"""Ratings and clicks predicted on the temporal split, beside TFRS's tutorial model and bare biases.

The latest tenth of the events is test, the tenth before it validation, the rest train; a click is a
rating of 4 or more. Most users of the test part are new, so that a model has to do well by what it
knows of items and of people of their kind. Everything is chosen on validation, by models of the
train part: our hyperparameters (the best of a few dozen runs over interaction, dimension, weight
decay, learning rate, dropout and features), the penalty of the biases. Then each model is fitted on
train and validation, and asked about the test part once.

The tutorial's model ("Recommending movies: ranking" of TensorFlow Recommenders): user and item
embeddings of 32, dense layers of 256 and 64, squared error, Adagrad with .1, batches of 8,192 and
three epochs; its AUC is that of the ratings that it predicts. `tutorial_longer` has the number of
epochs that is best on validation. The biases: mean, user and item with one penalty, by alternating
least squares.

The figures called `online` let each model know the user's earlier ratings at the time of the event,
as a service does: ours as two features of the event (their mean and how many), the biases by the
user's bias at that time. The tutorial's model has no place for them.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping
from typing import Any

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.data import histories
from tfrec_meta.evaluation.metrics import rmse
from tfrec_meta.evaluation.predictions import CLICK, RATING, judge_predictions
from tfrec_meta.keras import tf_keras

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_recommenders as tfrs

CLICK_FROM = 4.0
PENALTIES = (1.0, 2.0, 5.0, 10.0, 20.0)
TUTORIAL_EPOCHS = (3, 10, 30)
FEATURES = tm.FeatureSpec(
    user=(tm.Number("age"), tm.Category("gender"), tm.Category("occupation")),
    item=(tm.Category("genres", width=6), tm.Number("year")),
)
ONLINE = dataclasses.replace(
    FEATURES, context=(tm.Number("earlier_mean"), tm.Number("earlier_count"))
)


def strategy(target: str, features: tm.FeatureSpec, epochs: int, seed: int) -> tm.Strategy:
    """What did best on validation."""
    model = tm.RankerConfig(
        target=target,  # type: ignore[arg-type]
        interaction="dcn",
        embedding_dim=16,
        user_id=True,
        click_threshold=CLICK_FROM,
    )
    training = tm.TrainingConfig(
        epochs=epochs, patience=0, user_balance=0.0, weight_decay=3.0, seed=seed
    )
    return tm.Strategy("ranker", model, training, features)


def with_earlier_ratings(data: tm.Interactions) -> tm.Interactions:
    """Each event with the mean and the logarithm of the count of the user's earlier ratings."""
    past = histories(data)
    total = np.concatenate([[0.0], np.cumsum(values(data)[past.order])])
    count = past.lengths()
    mean = np.full(len(data), np.nan)
    np.divide(total[past.stop] - total[past.start], count, out=mean, where=count > 0)
    columns = {"earlier_mean": mean, "earlier_count": np.log1p(count)}
    events = data.events
    for name, column in columns.items():
        events = events.append_column(name, pa.array(column))
    return dataclasses.replace(data, events=events)


def values(data: tm.Interactions) -> np.ndarray:
    return data.events["value"].to_numpy().astype(np.float64)


class Biases:
    """Mean, user and item bias with a penalty, by alternating least squares."""

    def __init__(self, data: tm.Interactions, penalty: float):
        self.penalty = penalty
        self.mean = values(data).mean()
        self.users = {user: code for code, user in enumerate(data.user_ids)}
        self.items = {item: code for code, item in enumerate(data.item_ids)}
        user, item, off = data.user_codes, data.item_codes, values(data) - self.mean
        # The last of each is for those of whom nothing is known.
        self.of_user, self.of_item = np.zeros(len(self.users) + 1), np.zeros(len(self.items) + 1)
        for _ in range(20):
            for own, code, rest in (
                (self.of_item, item, off - self.of_user[user]),
                (self.of_user, user, off - self.of_item[item]),
            ):
                sums = np.bincount(code, rest, len(own))
                own[:] = sums / (np.bincount(code, minlength=len(own)) + penalty)

    def predict(self, events: tm.Interactions) -> np.ndarray:
        user = np.array([self.users.get(u, -1) for u in events.user_ids])[events.user_codes]
        return self.mean + self.of_user[user] + self._item(events)

    def predict_online(self, data: tm.Interactions, rows: np.ndarray) -> np.ndarray:
        """Of some events, each user's bias by all of their events before it."""
        past, item = histories(data), self._item(data)
        off = values(data) - self.mean - item
        total = np.concatenate([[0.0], np.cumsum(off[past.order])])
        sums, count = total[past.stop] - total[past.start], past.lengths()
        return (self.mean + item + sums / (count + self.penalty))[rows]

    def _item(self, events: tm.Interactions) -> np.ndarray:
        return self.of_item[
            np.array([self.items.get(i, -1) for i in events.item_ids])[events.item_codes]
        ]


class TutorialModel(tfrs.Model):
    """The ranking model of TFRS's public tutorial."""

    def __init__(self, data: tm.Interactions):
        super().__init__()
        layers = tf_keras.layers
        self.of_user, self.of_item = (
            tf_keras.Sequential(
                [
                    layers.StringLookup(vocabulary=list(map(str, tokens)), mask_token=None),
                    layers.Embedding(len(tokens) + 1, 32),
                ]
            )
            for tokens in (data.user_ids, data.item_ids)
        )
        self.ratings = tf_keras.Sequential(
            [
                layers.Dense(256, activation="relu"),
                layers.Dense(64, activation="relu"),
                layers.Dense(1),
            ]
        )
        self.task = tfrs.tasks.Ranking(
            loss=tf_keras.losses.MeanSquaredError(),
            metrics=[tf_keras.metrics.RootMeanSquaredError()],
        )

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        embeddings = self.of_user(features["user_id"]), self.of_item(features["item_id"])
        return self.ratings(tf.concat(embeddings, axis=1))

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.task(labels=inputs["value"], predictions=self(inputs))


def tutorial(data: tm.Interactions, epochs: int, seed: int) -> TutorialModel:
    """Fits the tutorial's model as the tutorial does."""
    tf_keras.utils.set_random_seed(seed)
    model = TutorialModel(data)
    model.compile(optimizer=tf_keras.optimizers.Adagrad(learning_rate=0.1))
    rows = tf.data.Dataset.from_tensor_slices(columns(data))
    batches = rows.shuffle(100_000, seed=seed, reshuffle_each_iteration=True).batch(8192).cache()
    model.fit(batches, epochs=epochs, verbose=0)
    return model


def columns(data: tm.Interactions) -> dict[str, Any]:
    return {
        "user_id": data.user_ids[data.user_codes].astype(str),
        "item_id": data.item_ids[data.item_codes].astype(str),
        "value": values(data).astype(np.float32)[:, None],
    }


def predicted(model: TutorialModel, data: tm.Interactions) -> np.ndarray:
    asked = {name: tf.constant(v) for name, v in columns(data).items() if name != "value"}
    return model(asked).numpy()[:, 0]


def main() -> None:
    """Chooses, trains, judges, prints."""
    chosen = arguments.parse(__doc__)
    split = tm.split_by_time(with_earlier_ratings(arguments.load(chosen.data)))
    print(split, file=sys.stderr)
    epochs, seed = 1 if chosen.quick else 6, chosen.seed
    past, test, validation = split.past, split.test, split.validation
    truth, clicks = values(test), values(test) >= CLICK_FROM

    figures: dict[str, Any] = {}
    began = time.perf_counter()
    for prefix, features in (("", FEATURES), ("online_", ONLINE)):
        for target, name in (("rating", "rmse"), ("click", "auc")):
            model = tm.train(past, strategy(target, features, epochs, seed), progress=False)
            found = tm.evaluate_ranking(model, split)
            figure = found[target][name]
            figures[prefix + name] = figure.value
            figures[f"{prefix}{name}_interval"] = [figure.low, figure.high]
            print(prefix, found, sep="\n")
    figures["train_and_judge_seconds"] = time.perf_counter() - began

    penalty = min(
        PENALTIES,
        key=lambda p: rmse(values(validation), Biases(split.train, p).predict(validation)),
    )
    biases = Biases(past, penalty)
    tries = TUTORIAL_EPOCHS[:1] if chosen.quick else TUTORIAL_EPOCHS
    best = min(
        tries,
        key=lambda n: rmse(
            values(validation), predicted(tutorial(split.train, n, seed), validation)
        ),
    )
    peers = {
        "tutorial": predicted(tutorial(past, TUTORIAL_EPOCHS[0], seed), test),
        "tutorial_longer": predicted(tutorial(past, best, seed), test),
        "bias": biases.predict(test),
        "bias_online": biases.predict_online(split.data, split.test_index),
    }
    for name, predictions in peers.items():
        of_rating = {"rmse": RATING["rmse"]}
        of_click = {"auc": CLICK["auc"]}
        found = {
            **judge_predictions(of_rating, truth, predictions, test.user_codes),
            **judge_predictions(of_click, clicks, predictions, test.user_codes),
        }
        for metric, figure in found.items():
            figures[f"{name}_{metric}"] = figure.value
            figures[f"{name}_{metric}_interval"] = [figure.low, figure.high]
    arguments.finish(
        {**figures, "bias_penalty": penalty, "tutorial_longer_epochs": best, "epochs": epochs},
        chosen,
    )


if __name__ == "__main__":
    main()
