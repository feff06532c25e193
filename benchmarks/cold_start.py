"""A meta-learned model for new users, compared with tuned baselines.

A fifth of the users is held out whole; those with at least 30 events are evaluated. The support set
consists of a user's first 1, 3, 5, 10 or 20 events by time. All events after the 20th are relevant,
whatever the support set, and the first 20 items are removed from everyone's ranking of the whole
catalogue. The metric is NDCG@10. Each seed holds out other users. A user who is held out by several
seeds counts once, with the mean, and the bootstrap resamples users.

All choices are made on validation users, an eighth of the others. For each baseline, the best
setting *for the same number of events* is chosen, so that a baseline may use several models where
our model is one, with its defaults. Then all models are fitted on all users who are not held out.

Plain fine-tuning starts from our model's answer without support (the popularity of later events,
and a zero vector over the same item vectors) and takes gradient steps on the support set's
cross-entropy over the catalogue. Their number and size are chosen like the settings of baselines.
No adaptation is our model without a support set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.evaluation.intervals import paired_difference
from tfrec_meta.metalearning.cold_users import (
    ColdUsers,
    SupportScores,
    adapted_scores,
    fine_tuned_scores,
    history_scores,
    without_support,
)
from tfrec_meta.models import (
    EASE,
    IALS,
    EASEConfig,
    IALSConfig,
    ItemKNN,
    ItemKNNConfig,
    MetaLearned,
    Popularity,
    PopularityConfig,
)

SHOTS = (1, 3, 5, 10, 20)
FIRST, FEWEST = 20, 30
STEPS = (1, 2, 4, 8)
RATES = (0.1, 0.2, 0.4, 0.8, 1.6)

BASELINES: Mapping[str, tuple[type, Sequence[object]]] = {
    "popularity": (Popularity, [PopularityConfig()]),
    "item_knn": (
        ItemKNN,
        [
            *(ItemKNNConfig(k1=k1, b=b) for k1, b in ((1.2, 0.0), (100.0, 0.2))),
            *(ItemKNNConfig(500, "cosine", shrinkage=s) for s in (10.0, 100.0, 1000.0)),
        ],
    ),
    "ease": (EASE, [EASEConfig(10.0**power) for power in (2, 3, 4, 5, 6, 7)]),
    "ials": (
        IALS,
        [
            IALSConfig(32, l2, unseen, iterations=8)
            for l2 in (10.0, 30.0, 100.0, 300.0)
            for unseen in (0.3, 1.0)
        ],
    ),
}


def ndcg(users: ColdUsers, score: SupportScores, shots: int) -> np.ndarray:
    """float64 [users], after so many events."""
    return users.evaluate(score, shots).per_query["ndcg@10"]


def fitted(kind: type, config: object, data: tm.Interactions, spec: tm.FeatureSpec, seed: int):
    """A baseline's model."""
    tf.keras.utils.set_random_seed(seed)
    model = kind(config, spec)
    model.fit(data)
    return model


def meta_trained(data: tm.Interactions, spec: tm.FeatureSpec, seed: int) -> MetaLearned:
    """Ours, as it is by default."""
    strategy = tm.Strategy("meta_learned", training=tm.TrainingConfig(seed=seed))
    return tm.train(data, strategy, features=spec, progress=False)


def one_seed(
    data: tm.Interactions, spec: tm.FeatureSpec, seed: int, quick: bool
) -> tuple[np.ndarray, Mapping[str, Mapping[int, np.ndarray]]]:
    """Who is asked about, and the NDCG@10 of each, by method and number of events."""
    outer = tm.split_cold_users(data, test=0.2, seed=seed)
    inner = tm.split_cold_users(outer.train, test=0.125, seed=seed + 1)
    judged, test = (ColdUsers(split.test, spec, FIRST, FEWEST - FIRST) for split in (inner, outer))
    found: dict[str, dict[int, np.ndarray]] = {}

    def choose(
        name: str, candidates: Iterator[tuple[object, SupportScores]]
    ) -> Mapping[int, object]:
        best: dict[int, tuple[float, object]] = {}
        for config, score in candidates:
            for shots in SHOTS:
                value = ndcg(judged, score, shots).mean()
                if shots not in best or value > best[shots][0]:
                    best[shots] = (value, config)
        said = {shots: (round(float(value), 4), config) for shots, (value, config) in best.items()}
        print(f"seed {seed}, {name}: {said}", file=sys.stderr)
        return {shots: config for shots, (_, config) in best.items()}

    for name, (kind, grid) in BASELINES.items():
        grid = grid[:: max(len(grid) - 1, 1)] if quick else grid
        models = ((c, history_scores(fitted(kind, c, inner.train, spec, seed))) for c in grid)
        chosen = choose(name, models)
        scores = {
            config: history_scores(fitted(kind, config, outer.train, spec, seed))
            for config in set(chosen.values())
        }
        found[name] = {shots: ndcg(test, scores[chosen[shots]], shots) for shots in SHOTS}

    model = meta_trained(inner.train, spec, seed)
    ours = adapted_scores(model)
    values = {shots: round(float(ndcg(judged, ours, shots).mean()), 4) for shots in SHOTS}
    print(f"seed {seed}, ours: {values}", file=sys.stderr)
    settings = [(steps, rate) for steps in STEPS for rate in RATES]
    tuned = choose("fine_tune", ((s, fine_tuned_scores(model, *s)) for s in settings))
    model = meta_trained(outer.train, spec, seed)
    ours = adapted_scores(model)
    found["ours"] = {shots: ndcg(test, ours, shots) for shots in SHOTS}
    found["fine_tune"] = {k: ndcg(test, fine_tuned_scores(model, *tuned[k]), k) for k in SHOTS}
    zero = ndcg(test, without_support(ours), 1)
    found["no_adapt"] = dict.fromkeys(SHOTS, zero)
    return test.users, found


def by_user(users: np.ndarray, values: np.ndarray) -> np.ndarray:
    """float64: the mean of each user's values, in the order of their ids."""
    _, place, count = np.unique(users, return_inverse=True, return_counts=True)
    return np.bincount(place, values) / count


def parse() -> argparse.Namespace:
    """As every benchmark, and how many seeds."""
    seeds = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    seeds.add_argument("--seeds", type=int, default=5)
    own, others = seeds.parse_known_args()
    chosen = arguments.parse(f"{__doc__}\n--seeds N: that many draws of users (default 5).", others)
    chosen.seeds = min(own.seeds, 1) if chosen.quick else own.seeds
    return chosen


def main() -> None:
    """Tunes, trains, evaluates, compares, prints."""
    chosen = parse()
    data = arguments.load(chosen.data)
    spec = tm.FeatureSpec.infer(data, history_length=FIRST).fit(data)
    runs = [one_seed(data, spec, chosen.seed + 10 * n, chosen.quick) for n in range(chosen.seeds)]
    users = np.concatenate([users for users, _ in runs])
    per_user = {
        name: {
            shots: by_user(users, np.concatenate([run[name][shots] for _, run in runs]))
            for shots in SHOTS
        }
        for name in runs[0][1]
    }
    print(f"{'events':<12}" + "".join(f"{shots:>9}" for shots in SHOTS))
    for name, by_shots in per_user.items():
        print(f"{name:<12}" + "".join(f"{by_shots[shots].mean():9.4f}" for shots in SHOTS))
    result: dict[str, object] = {"users": len(per_user["ours"][1]), "seeds": chosen.seeds}
    for shots in SHOTS:
        ours = per_user["ours"][shots]
        best = max(BASELINES, key=lambda name: per_user[name][shots].mean())
        result[f"ours_{shots}"] = float(ours.mean())
        result[f"best_baseline_{shots}"] = float(per_user[best][shots].mean())
        result[f"best_baseline_{shots}_is"] = best
        for name in (best, "no_adapt", "fine_tune"):
            compared = paired_difference(ours, per_user[name][shots], f"ndcg@10 after {shots}")
            print(f"ours - {name}: {compared}")
            key = "best_baseline" if name == best else name
            result[f"{key}_{shots}_p"] = compared.p
            result.setdefault(f"{key}_{shots}", float(per_user[name][shots].mean()))
    result["ours_by_seed"] = {
        str(shots): [float(run["ours"][shots].mean()) for _, run in runs] for shots in SHOTS
    }
    arguments.finish(result, chosen)


if __name__ == "__main__":
    main()
