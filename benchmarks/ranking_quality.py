"""Prediction of ratings and clicks on a split by time, compared with TFRS's tutorial and biases.

The latest tenth of the events is test, the tenth before it validation, the rest train. A click is a
rating of 4 or more, and the AUC is that of the predicted ratings. Seven of ten test events are from
users without earlier events, so that a model has to rely on items and on users' attributes. All
choices are made on validation, with models of the train part: our hyperparameters (the best of some
thirty runs over interaction, target, dimension, weight decay, learning rate, dropout and features)
and the penalty of the biases. Then each model is fitted on train and validation, and evaluated on
the test part once.

The tutorial's model ("Recommending movies: ranking" of TensorFlow Recommenders) has user and item
embeddings of 32, dense layers of 256 and 64, squared error, Adagrad with rate 0.1, batches of 8,192
and three epochs. `tutorial_longer` has the number of epochs that is best on validation. The biases
are mean, user and item with one penalty, by alternating least squares. A `difference` is ours minus
the peer's, with its interval by a bootstrap of users.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.evaluation.metrics import binary_auc, rmse
from tfrec_meta.evaluation.predictions import prediction_estimates
from tfrec_meta.features.held_out import event_queries
from tfrec_meta.keras import tf_keras

CLICK_FROM = 4.0
PENALTIES = (1.0, 2.0, 5.0, 10.0, 20.0)
TUTORIAL_EPOCHS = (3, 10, 30)
FEATURES = tm.FeatureSpec(
    user=(tm.Number("age"), tm.Category("gender"), tm.Category("occupation")),
    item=(tm.Category("genres", width=6), tm.Number("year")),
)


def strategy(epochs: int, seed: int) -> tm.Strategy:
    """What did best on validation."""
    model = tm.RankerConfig(target="rating", embedding_dim=16, user_id=True)
    training = tm.TrainingConfig(
        epochs=epochs,
        patience=0,
        weight_decay=3.0,
        user_balance=0.0,
        user_dropout=0.0,
        # New users have no history: the rest of the model must not lean on it.
        history_length=50,
        history_dropout=0.8,
        seed=seed,
    )
    return tm.Strategy("ranker", model, training, FEATURES)


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
        # The last row of each is for unknown users or items.
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
        item = np.array([self.items.get(i, -1) for i in events.item_ids])[events.item_codes]
        return self.mean + self.of_user[user] + self.of_item[item]


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


def difference(
    metric: Callable[[Any, Any], float], ours: np.ndarray, peers: np.ndarray
) -> Callable[[Any, Any], float]:
    """A metric of our predictions, less that of a peer's, as a function of labels and rows."""

    def compared(labels: Any, rows: Any) -> float:
        chosen = np.asarray(rows, np.int64)
        return metric(labels, ours[chosen]) - metric(labels, peers[chosen])

    return compared


def main() -> None:
    """Chooses, trains, judges, prints."""
    chosen = arguments.parse(__doc__)
    split = tm.split_by_time(arguments.load(chosen.data))
    print(split, file=sys.stderr)
    epochs, seed = 1 if chosen.quick else 6, chosen.seed
    past, test, validation = split.past, split.test, split.validation

    began = time.perf_counter()
    model = tm.train(past, strategy(epochs, seed), progress=False)
    seconds = time.perf_counter() - began
    print(tm.evaluate_predictions(model, split))

    def error(predictions: np.ndarray) -> float:
        return rmse(values(validation), predictions)

    penalty = min(PENALTIES, key=lambda p: error(Biases(split.train, p).predict(validation)))
    tries = TUTORIAL_EPOCHS[:1] if chosen.quick else TUTORIAL_EPOCHS
    longer = min(tries, key=lambda n: error(predicted(tutorial(split.train, n, seed), validation)))
    found = {
        "": model.predict_events(*event_queries(model.spec, past, test))["rating"],
        "tutorial_": predicted(tutorial(past, TUTORIAL_EPOCHS[0], seed), test),
        "tutorial_longer_": predicted(tutorial(past, longer, seed), test),
        "bias_": Biases(past, penalty).predict(test),
    }
    figures: dict[str, Any] = {}
    for name, metric, labels in (
        ("rmse", rmse, values(test)),
        ("auc", binary_auc, values(test) >= CLICK_FROM),
    ):
        for prefix, predictions in found.items():
            estimates = prediction_estimates({name: metric}, labels, predictions, test.user_codes)
            figures[prefix + name] = estimates[name].value
            figures[f"{prefix}{name}_interval"] = [estimates[name].low, estimates[name].high]
            if prefix:
                compared = {name: difference(metric, found[""], predictions)}
                rows = np.arange(len(labels))
                off = prediction_estimates(compared, labels, rows, test.user_codes)[name]
                figures[f"{prefix}{name}_difference"] = [off.value, off.low, off.high]
    figures |= {"train_seconds": seconds, "epochs": epochs, "bias_penalty": penalty}
    arguments.finish({**figures, "tutorial_longer_epochs": longer}, chosen)


if __name__ == "__main__":
    main()
