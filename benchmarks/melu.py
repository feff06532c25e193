"""Ratings of cold users, predicted from a few of their ratings: a meta-learned ranker and MeLU.

    python -m benchmarks.melu

The setting of Lee et al., "MeLU: Meta-Learned User Preference Estimator for Cold-Start
Recommendation" (KDD 2019), on MovieLens: users with 13 to 100 ratings, a quarter of whom are held
out whole (cold users; all items). Ten of a user's ratings, drawn at random, are predicted; the
others are the support set. The metrics are the mean absolute error, and NDCG at 1, 3 and 5 of the
ten by predicted rating (gain 2^rating - 1). Each seed draws other users and other ratings. A user
who is held out by several seeds counts once, with the mean, and the bootstrap resamples users.

- `ours`: the family `meta_ranker`: a ridge head on a network over content, ids and statistics of
  other users' ratings of the item.
- `melu`: content only (age, gender, occupation, zip code; genres, year; the data has no directors,
  actors or film ratings), embeddings of 32, two decision layers of 64, which are the only layers
  that are updated locally.
- `no_adapt`: ours without support. `bias`: the shrunk means of item and user.

The settings of each are chosen on validation users, a fifth of those who are not held out: for MeLU
the steps and rate of the local update (the paper uses one step), the global rate and the
embeddings' decay; for ours ids, layers and decay; for the biases both shrinkages. Then all models
are fitted on all users who are not held out.

A seed takes ten minutes. Finished seeds are stored in .runs/melu, and a run continues with the
rest. Delete that folder to measure all seeds again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import tfrec_meta as tm
from benchmarks import arguments
from benchmarks.cold_start import by_user
from tfrec_meta.evaluation.intervals import paired_difference
from tfrec_meta.io.files import write_text
from tfrec_meta.metalearning.rankers import predict_events
from tfrec_meta.models import MetaRankerConfig

HOME = Path(__file__).parents[1] / ".runs" / "melu"
FEWEST, MOST, ASKED = 13, 100, 10
CUTS = (1, 3, 5)
SEEDS = 5
Predict = Callable[[tm.Interactions, tm.Interactions], np.ndarray]

OURS = [
    MetaRankerConfig(hidden=hidden, item_id=item_id, weight_decay=decay)
    for hidden, item_id, decay in (
        ((64,), True, 0.1),
        ((64,), True, 3.0),
        ((64,), False, 0.1),
        ((), True, 0.1),
    )
]
MELU = [
    MetaRankerConfig(
        learner="maml",
        inner_steps=steps,
        inner_rate=rate,
        embedding_dim=32,
        hidden=(64, 64),
        item_id=False,
        item_statistics=False,
        weight_decay=decay,
        learning_rate=outer_rate,
    )
    for steps, rate, decay, outer_rate in (
        (1, 0.1, 0.0, 0.01),
        (5, 0.05, 0.0, 0.01),
        (5, 0.05, 0.0, 0.003),
        (5, 0.05, 3.0, 0.01),
        (5, 0.1, 3.0, 0.01),
        (10, 0.05, 3.0, 0.01),
        (10, 0.1, 3.0, 0.01),
    )
]
BIASES = list(itertools.product((0.5, 1.0, 2.0, 5.0), (1.0, 3.0, 5.0, 10.0)))


def prepared(data: tm.Interactions) -> tm.Interactions:
    """Users with few ratings alone, ages as decades, and years as categories."""
    counts = np.bincount(data.user_codes, minlength=len(data.user_ids))
    data = data.take(((counts >= FEWEST) & (counts <= MOST))[data.user_codes])
    users, items = data.users, data.items
    ages = [None if age is None else f"{int(age) // 10}0s" for age in users["age"].to_pylist()]
    years = [None if year is None else str(int(year)) for year in items["year"].to_pylist()]
    return dataclasses.replace(
        data,
        users=users.set_column(users.schema.get_field_index("age"), "age", pa.array(ages)),
        items=items.set_column(items.schema.get_field_index("year"), "year", pa.array(years)),
    )


FEATURES = tm.FeatureSpec(
    user=tuple(map(tm.Category, ("age", "gender", "occupation", "zip_code"))),
    item=(tm.Category("genres", width=6), tm.Category("year")),
)


def support_and_query(data: tm.Interactions, seed: int) -> tuple[tm.Interactions, tm.Interactions]:
    """Ten of each user's ratings are asked about."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(data)), data.user_codes))
    users = data.user_codes[order]
    asked = np.zeros(len(data), bool)
    asked[order] = np.arange(len(order)) - np.searchsorted(users, users) < ASKED
    return data.take(~asked), data.take(asked)


def biases(data: tm.Interactions, of_items: float, of_users: float) -> Predict:
    """The mean rating, and what item and user are off from it, drawn to 0 by so many ratings."""
    values = data.events["value"].to_numpy().astype(float)
    usual = float(values.mean())
    item = dict(zip(data.item_ids, _shrunk(data.item_codes, values - usual, of_items), strict=True))

    def off(events: tm.Interactions) -> np.ndarray:
        return np.array([item.get(name, 0.0) for name in events.item_ids])[events.item_codes]

    def predict(support: tm.Interactions, asked: tm.Interactions) -> np.ndarray:
        left = support.events["value"].to_numpy() - usual - off(support)
        user = dict(zip(support.user_ids, _shrunk(support.user_codes, left, of_users), strict=True))
        of_user = np.array([user.get(name, 0.0) for name in asked.user_ids])[asked.user_codes]
        return usual + off(asked) + of_user

    return predict


def _shrunk(codes: np.ndarray, values: np.ndarray, by: float) -> np.ndarray:
    return np.bincount(codes, values) / (np.bincount(codes) + by)


def judged(predicted: np.ndarray, asked: tm.Interactions) -> dict[str, np.ndarray]:
    """MAE and NDCG of each user, in the order of `asked.user_ids`."""
    values = asked.events["value"].to_numpy().astype(float)
    order = np.argsort(asked.user_codes, kind="stable").reshape(-1, ASKED)
    true, said = values[order], np.clip(predicted, values.min(), values.max())[order]
    gain = 2.0**true - 1.0
    ranked = np.take_along_axis(gain, np.argsort(-said, axis=1, kind="stable"), axis=1)
    best = -np.sort(-gain, axis=1)
    discount = 1.0 / np.log2(np.arange(2, ASKED + 2))
    found = {"mae": np.abs(true - said).mean(axis=1)}
    for cut in CUTS:
        top = discount[:cut]
        found[f"ndcg_at_{cut}"] = (ranked[:, :cut] @ top) / (best[:, :cut] @ top)
    return found


def one_seed(data: tm.Interactions, seed: int, quick: bool) -> dict[str, Any]:
    """Who is asked about, and the figures of each, by method."""
    outer = tm.split_cold_users(data, test=0.25, seed=seed)
    inner = tm.split_cold_users(outer.train, test=0.2, seed=seed + 1)
    spec = FEATURES.fit(outer.train)
    support, query = support_and_query(inner.test, seed)

    def meta_trained(config: MetaRankerConfig, train: tm.Interactions) -> Predict:
        config = dataclasses.replace(config, steps=2 if quick else config.steps)
        recipe = tm.TrainingConfig(seed=seed)
        strategy = tm.Strategy("meta_ranker", config, recipe)
        model = tm.train(train, strategy, features=spec, progress=False)
        return functools.partial(predict_events, model)

    def chosen(name: str, settings: Sequence[Any], made: Callable[..., Predict]) -> Predict:
        errors = [
            float(judged(made(setting, inner.train)(support, query), query)["mae"].mean())
            for setting in settings[: 2 if quick else None]
        ]
        best = settings[int(np.argmin(errors))]
        said = ", ".join(f"{error:.4f}" for error in errors)
        print(f"seed {seed}, {name}: {said}: {best}", file=sys.stderr, flush=True)
        return made(best, outer.train)

    methods: Mapping[str, Predict] = {
        "ours": chosen("ours", OURS, meta_trained),
        "melu": chosen("melu", MELU, meta_trained),
        "bias": chosen("bias", BIASES, lambda by, train: biases(train, *by)),
    }
    support, query = support_and_query(outer.test, seed + 2)
    found: dict[str, Any] = {name: judged(p(support, query), query) for name, p in methods.items()}
    nothing = support.take(np.zeros(len(support), bool))
    found["no_adapt"] = judged(methods["ours"](nothing, query), query)
    return {"users": query.user_ids, **found}


def stored_seed(data: tm.Interactions, seed: int, quick: bool) -> dict[str, Any]:
    """`one_seed`, or what it returned before a kill."""
    asked = repr((data.digest(), seed, quick, OURS, MELU, BIASES))
    path = HOME / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        found = one_seed(data, seed, quick)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(found, default=lambda values: values.tolist()))
    return dict(json.loads(path.read_text("utf-8")))


def main() -> None:
    """Tunes, trains, predicts, compares, prints."""
    chosen = arguments.parse(__doc__)
    data = prepared(arguments.load(chosen.data))
    seeds = [chosen.seed + 10 * n for n in range(1 if chosen.quick else SEEDS)]
    runs = [stored_seed(data, seed, chosen.quick) for seed in seeds]
    users = np.concatenate([run["users"] for run in runs])

    def figures(method: str, metric: str) -> np.ndarray:
        return by_user(users, np.concatenate([run[method][metric] for run in runs]))

    result: dict[str, Any] = {"users": len(set(users)), "seeds": seeds}
    for metric in ("mae", *(f"ndcg_at_{cut}" for cut in CUTS)):
        ours = figures("ours", metric)
        result[metric] = float(ours.mean())
        for other in ("melu", "bias", "no_adapt"):
            theirs = figures(other, metric)
            compared = paired_difference(ours, theirs, metric)
            print(f"ours - {other}: {compared}")
            result[f"{other}_{metric}"] = float(theirs.mean())
            result[f"{other}_{metric}_p"] = compared.p
    arguments.finish(result, chosen)


if __name__ == "__main__":
    main()
