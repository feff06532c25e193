"""The speed of full-catalogue evaluation, compared with TensorFlow Recommenders.

The same trained towers, candidates and test rows, and the same figures (top-1, 5, 10, 50 and 100
accuracy of the true candidate) are computed in three ways:

- tutorial: `tfrs.metrics.FactorizedTopK(candidates=items.batch(128).map(item_tower))`;
- brute force: the same metric over a `BruteForce` index;
- ours: `tfrec_meta.evaluation.true_candidate_ranks`.

There are two cases: the test rows of all users, with one query time per user (the end of their
training rows), so that queries repeat as in a real test set; and 20,000 distinct queries (user,
time), where deduplication cannot help.

The towers are those of TFRS's tutorials (a user embedding with the time as context, an item
embedding), trained here briefly; the speed does not depend on their quality.

To be fair to the peers, they get `true_candidate_ids` (row numbers, the cheapest kind), cached and
prefetched batches of 4096 as in the tutorials, one compiled `tf.function` per batch and no loss,
and their tracing and warm-up are not timed. Both sides embed their queries within the timing. Ours
also embeds the candidates and finds the distinct queries, while building the BruteForce index is
not timed. Rounds are interleaved, so that a slow moment of the machine affects all three. Times are
medians, speedups are ratios of medians.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.arguments import finish, load, parse
from tfrec_meta.data import Interactions, split_by_item
from tfrec_meta.evaluation import top_k_accuracy, true_candidate_ranks

tf.get_logger().setLevel("ERROR")  # one function a way and case is meant: no "retracing" warnings

KS = (1, 5, 10, 50, 100)
BATCH = 4096
DISTINCT = 20_000


class TutorialModel(tfrs.Model):
    """Two towers as in TFRS's retrieval and context-feature tutorials."""

    def __init__(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, dimension: int = 32
    ) -> None:
        super().__init__()
        layers = tf.keras.layers
        self.user_ids = tf.keras.Sequential(
            [
                layers.StringLookup(vocabulary=users.tolist(), mask_token=None),
                layers.Embedding(len(users) + 1, dimension),
            ]
        )
        self.time = layers.Normalization(axis=None, mean=times.mean(), variance=times.var() + 1.0)
        self.query_dense = layers.Dense(dimension)
        self.item_tower = tf.keras.Sequential(
            [
                layers.StringLookup(vocabulary=items.tolist(), mask_token=None),
                layers.Embedding(len(items) + 1, dimension),
            ]
        )
        self.task = tfrs.tasks.Retrieval()

    def query_tower(self, features: dict[str, Any]) -> Any:
        return self.query_dense(
            tf.concat(
                [self.user_ids(features["user"]), self.time(features["time"])[:, None]], axis=1
            )
        )

    def compute_loss(self, features: dict[str, Any], training: bool = False) -> Any:
        return self.task(
            self.query_tower(features), self.item_tower(features["item"]), compute_metrics=False
        )


def features_of(data: Interactions, rows: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """The features of some rows as a tf.data pipeline takes them; `times` is [len(rows)]."""
    return {
        "user": data.user_ids[data.user_codes[rows]].astype(str),
        "item": data.item_ids[data.item_codes[rows]].astype(str),
        "row": data.item_codes[rows].astype(np.int32),
        "time": times.astype(np.float32),
    }


def train(
    data: Interactions, rows: np.ndarray, times: np.ndarray, epochs: int, seed: int
) -> TutorialModel:
    tf.keras.utils.set_random_seed(seed)
    model = TutorialModel(data.user_ids, data.item_ids, times)
    model.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(0.1))
    dataset = tf.data.Dataset.from_tensor_slices(features_of(data, rows, times[rows]))
    model.fit(dataset.shuffle(len(rows), seed=seed).batch(BATCH).cache(), epochs=epochs, verbose=0)
    return model


def peer(
    model: TutorialModel, candidates: Any, features: dict[str, np.ndarray]
) -> Callable[[], dict[int, float]]:
    """An evaluation through FactorizedTopK over `candidates` (a dataset or an index)."""
    metric = tfrs.metrics.FactorizedTopK(candidates=candidates, ks=KS)
    batches = tf.data.Dataset.from_tensor_slices(features).batch(BATCH).cache().prefetch(2)

    @tf.function(reduce_retracing=True)
    def step(batch: dict[str, Any]) -> None:
        metric.update_state(
            model.query_tower(batch),
            model.item_tower(batch["item"]),
            true_candidate_ids=batch["row"],
        )

    def evaluate() -> dict[int, float]:
        metric.reset_states()
        for batch in batches:
            step(batch)
        return {k: float(value) for k, value in zip(KS, metric.result(), strict=True)}

    return evaluate


def ours(
    model: TutorialModel,
    items: np.ndarray,
    features: dict[str, np.ndarray],
    query_codes: np.ndarray,
) -> Callable[[], dict[int, float]]:
    """Our evaluation; rows with the same `query_codes` are the same query."""
    embed_queries = tf.function(model.query_tower, reduce_retracing=True)
    embed_items = tf.function(model.item_tower, reduce_retracing=True)
    names = tf.constant(items.astype(str))
    # As tensors beforehand: so are the peers' batches, which are cached.
    query_features = {name: tf.constant(features[name]) for name in ("user", "time")}

    def evaluate() -> dict[int, float]:
        _, first, index = np.unique(query_codes, return_index=True, return_inverse=True)
        distinct = {name: tf.gather(values, first) for name, values in query_features.items()}
        ranks = true_candidate_ranks(
            embed_queries(distinct).numpy(), embed_items(names).numpy(), features["row"], index
        )
        return top_k_accuracy(ranks, KS)

    return evaluate


def distinct_rows(data: Interactions, times: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Up to 20,000 rows that no two have both user and time in common, test rows first."""
    others = np.setdiff1d(np.arange(len(data)), test)
    order = np.concatenate([test, np.random.default_rng(seed).permutation(others)])
    pairs = np.stack([data.user_codes[order].astype(np.int64), times[order].astype(np.int64)], 1)
    _, first = np.unique(pairs, axis=0, return_index=True)
    return order[np.sort(first)[:DISTINCT]]


def measure(
    ways: dict[str, Callable[[], dict[int, float]]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, dict[int, float]]]:
    """Seconds of each way in each round, interleaved after one warm-up each, and its figures."""
    figures = {name: way() for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            figures[name] = way()
            seconds[name].append(time.perf_counter() - start)
    return seconds, figures


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse(__doc__ or "", argv)
    data = load(arguments.data)
    times = data.times
    times = np.zeros(len(data)) if times is None else times.astype(np.float64)
    split = split_by_item(data, train=0.75, seed=arguments.seed)
    model = train(
        data, split.train_index, times, epochs=1 if arguments.quick else 3, seed=arguments.seed
    )

    items = data.item_ids.astype(str)
    if len(items) < max(KS):
        raise SystemExit(f"{data.name} has {len(items)} items; FactorizedTopK needs {max(KS)}.")
    rounds = 3 if arguments.quick else 7
    catalogue = tf.data.Dataset.from_tensor_slices(items)
    index = tfrs.layers.factorized_top_k.BruteForce(k=max(KS))
    index.index(model.item_tower(tf.constant(items)))

    # Each user asks once, at the end of their train rows.
    last = np.zeros(len(data.user_ids))
    np.maximum.at(last, data.user_codes[split.train_index], times[split.train_index])
    test = split.test_index
    codes = data.user_codes[test]
    spread = distinct_rows(data, times, test, arguments.seed)
    cases = {
        "": (
            f"{len(test):,} test rows of {len(np.unique(codes)):,} users",
            features_of(data, test, last[codes]),
            codes,
        ),
        "_distinct": (
            f"{len(spread):,} distinct queries",
            features_of(data, spread, times[spread]),
            np.arange(len(spread)),
        ),
    }

    result: dict[str, float] = {"max_abs_diff": 0.0}
    print(f"{data.name}: {len(items):,} candidates, median of {rounds} interleaved rounds")
    print(f"{'':<36}{'seconds':>9}{'ours is faster by':>19}{'top-10 accuracy':>17}")
    for suffix, (title, features, query_codes) in cases.items():
        ways = {
            "tutorial": peer(model, catalogue.batch(128).map(model.item_tower), features),
            "brute_force": peer(model, index, features),
            "ours": ours(model, items, features, query_codes),
        }
        seconds, figures = measure(ways, rounds)
        middle = {name: float(np.median(values)) for name, values in seconds.items()}
        print(title)
        for name, label in (
            ("tutorial", "FactorizedTopK, tutorial's form"),
            ("brute_force", "FactorizedTopK over BruteForce"),
            ("ours", "ours"),
        ):
            ratio = f"{middle[name] / middle['ours']:.1f} times" if name != "ours" else ""
            print(f"  {label:<34}{middle[name]:>9.4f}{ratio:>19}{figures[name][10]:>17.6f}")
            result["max_abs_diff"] = max(
                result["max_abs_diff"], *(abs(figures[name][k] - figures["ours"][k]) for k in KS)
            )
            result[f"{name}_seconds{suffix}"] = middle[name]
        result[f"speedup{suffix}"] = middle["tutorial"] / middle["ours"]
        result[f"speedup_brute_force{suffix}"] = middle["brute_force"] / middle["ours"]
    print(f"largest difference of a figure: {result['max_abs_diff']:.2g}")
    finish(result, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
