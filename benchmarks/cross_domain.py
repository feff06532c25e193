"""Adaptation to another domain: one genre is held out, and the model adapts with a few ratings.

    python -m benchmarks.cross_domain

Each of the six genres of MovieLens-100K with most films is held out by itself, with all its films
and a fifth of the users (`split_domain`). A user's first 3, 5 or 10 ratings in the genre are the
support set. All ratings after the 10th are predicted, whatever the support set, for users with at
least 15. The metrics are the mean absolute error of these ratings, and NDCG@10 over the genre's
films without the user's first 10; films with a later rating of 4 or more are relevant. Ratings in
other genres are not available.

- `adapted`: the family `meta_ranker`, meta-trained on the other users and genres, with content
  features only and with its defaults, which were chosen on validation users of all genres.
- `not_adapted`: the same without a support set.
- `from_scratch`: the same network, initialised at random (and with the mean rating of the other
  genres), trained on the same support set. Its steps and rate are chosen per genre, metric and size
  of the support set on validation users of the genre, an advantage that our model does not have.

Each seed holds out other users. A user who occurs with several genres or seeds counts once, with
the mean, and the bootstrap resamples users.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import sys
from collections.abc import Mapping

import numpy as np

import tfrec_meta as tm
from benchmarks import arguments
from benchmarks.cold_start import by_user
from tfrec_meta.data import split_domain
from tfrec_meta.evaluation.intervals import paired_difference
from tfrec_meta.metalearning.rankers import predict_events
from tfrec_meta.models import MetaRanker, MetaRankerConfig

SHOTS, FIRST, FEWEST = (3, 5, 10), 10, 15
LIKED, CUT = 4.0, 10
GENRES, SEEDS = 6, 3
METRICS = ("mae", "ndcg_at_10")
Found = Mapping[str, np.ndarray]
"""float64 [users] by metric."""

# What a film of an unseen genre has no part of, its id and its mean, is not learned either.
OURS = MetaRankerConfig(item_id=False, item_statistics=False, shots=(0, FIRST))
SCRATCH = [
    dataclasses.replace(OURS, learner="maml", inner_steps=inner, inner_rate=rate, steps=0)
    for inner, rate in itertools.product((1, 5, 15), (0.03, 0.2))
]
FEATURES = tm.FeatureSpec(
    user=(tm.Number("age"), tm.Category("gender"), tm.Category("occupation")),
    item=(tm.Category("genres", width=6), tm.Number("year")),
)


class Asked:
    """Users with enough events in the domain, and what is asked of each.

    Args:
        events: all that they did in the domain.
        items: ids of the domain's items.
    """

    def __init__(self, events: tm.Interactions, items: np.ndarray):
        order = np.lexsort((np.arange(len(events)), events.times, events.user_codes))
        users = events.user_codes[order]
        place = np.empty(len(order), int)
        place[order] = np.arange(len(order)) - np.searchsorted(users, users)
        enough = np.bincount(users)[events.user_codes] >= FEWEST
        self.events, self.place, self.enough = events, place, enough
        self.query = events.take(enough & (place >= FIRST))
        self.users, self.items = self.query.user_ids, np.sort(items)
        pairs = [np.repeat(self.users, len(items)), np.tile(self.items, len(self.users))]
        self.pairs = tm.Interactions.from_arrays(*pairs, users=events.users, items=events.items)

    def support(self, shots: int) -> tm.Interactions:
        """The first events of each."""
        return self.events.take(self.enough & (self.place < shots))

    def judged(self, ranker: MetaRanker, shots: int) -> Found:
        """How a ranker does after so many events."""
        support, query, size = self.support(shots), self.query, len(self.items)
        value = query.events["value"].to_numpy()
        said = np.clip(predict_events(ranker, support, query), value.min(), value.max())
        errors = np.bincount(query.user_codes, np.abs(said - value))
        found = {"mae": errors / np.bincount(query.user_codes)}
        scores = np.empty((len(self.users), size))
        at = self._place(self.pairs)
        scores[at] = predict_events(ranker, support, self.pairs)
        scores[self._place(self.support(FIRST))] = -np.inf
        relevant = np.zeros(scores.shape)
        relevant[self._place(query.take(value >= LIKED))] = 1.0
        discount = 1.0 / np.log2(np.arange(2, CUT + 2))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :CUT]
        gained = np.take_along_axis(relevant, best, axis=1) @ discount[: best.shape[1]]
        wanted = np.minimum(relevant.sum(axis=1), CUT).astype(int)
        ideal = np.concatenate([[np.nan], np.cumsum(discount)])[wanted]  # nothing was liked
        return {**found, f"ndcg_at_{CUT}": gained / ideal}

    def _place(self, events: tm.Interactions) -> tuple[np.ndarray, np.ndarray]:
        row = {user: row for row, user in enumerate(self.users)}
        rows = np.array([row[user] for user in events.user_ids], int)[events.user_codes]
        return rows, np.searchsorted(self.items, events.item_ids)[events.item_codes]


def largest(data: tm.Interactions, count: int) -> list[str]:
    """The genres with most items."""
    sizes = collections.Counter(
        genre for genres in data.items["genres"].to_pylist() for genre in genres or ()
    )
    return [genre for genre, _ in sizes.most_common(count)]


def one_genre(
    data: tm.Interactions,
    spec: tm.FeatureSpec,
    scratch: list[MetaRankerConfig],
    genre: str,
    seed: int,
    quick: bool,
) -> dict[str, dict[int, Found]]:
    """The figures of each user, by method and size of the support set; and the users."""
    split = split_domain(data, "genres", genre, test=0.2, validation=0.1, seed=seed)
    known = zip(data.items["item_id"].to_pylist(), data.items["genres"].to_pylist(), strict=True)
    items = np.array([item for item, genres in known if genre in (genres or ())], object)
    items = items[np.isin(items, data.item_ids)]
    judged, test = Asked(split.validation, items), Asked(split.test, items)

    def trained(config: MetaRankerConfig) -> MetaRanker:
        config = dataclasses.replace(config, steps=min(config.steps, 2 if quick else 400))
        strategy = tm.Strategy("meta_ranker", config, tm.TrainingConfig(seed=seed))
        return tm.train(split.train, strategy, features=spec, progress=False)

    ours = trained(OURS)
    untrained = [trained(config) for config in scratch]
    found: dict[str, dict[int, Found]] = {
        "adapted": {shots: test.judged(ours, shots) for shots in SHOTS},
        "not_adapted": dict.fromkeys(SHOTS, test.judged(ours, 0)),
        "from_scratch": {},
    }
    for shots in SHOTS:
        tried = [judged.judged(ranker, shots) for ranker in untrained]
        best = {
            "mae": int(np.argmin([one["mae"].mean() for one in tried])),
            "ndcg_at_10": int(np.argmax([np.nanmean(one["ndcg_at_10"]) for one in tried])),
        }
        found["from_scratch"][shots] = {
            metric: test.judged(untrained[place], shots)[metric] for metric, place in best.items()
        }
    found["users"] = {0: {"names": test.users}}
    said = {
        method: [round(float(np.nanmean(found[method][5][metric])), 4) for metric in METRICS]
        for method in METHODS
    }
    print(f"seed {seed}, {genre}: {len(test.users)} users, {said}", file=sys.stderr, flush=True)
    return found


METHODS = ("adapted", "not_adapted", "from_scratch")


def main() -> None:
    """Meta-trains, adapts, compares, prints."""
    chosen = arguments.parse(__doc__)
    data = arguments.load(chosen.data)
    spec = FEATURES.fit(data)
    settings = SCRATCH[:2] if chosen.quick else SCRATCH
    genres = largest(data, 1 if chosen.quick else GENRES)
    seeds = [chosen.seed + 10 * n for n in range(1 if chosen.quick else SEEDS)]
    runs = [
        {genre: one_genre(data, spec, settings, genre, seed, chosen.quick) for genre in genres}
        for seed in seeds
    ]

    def figures(method: str, metric: str, shots: int, of: list[str]) -> np.ndarray:
        each = [run[genre] for genre in of for run in runs]
        users = np.concatenate([run["users"][0]["names"] for run in each])
        values = np.concatenate([run[method][shots][metric] for run in each])
        there = np.isfinite(values)
        return by_user(users[there], values[there])

    result: dict[str, object] = {"seeds": seeds, "genres": genres}
    result["users"] = len(figures("adapted", "mae", SHOTS[0], genres))
    for shots in SHOTS:
        for metric in METRICS:
            ours = figures("adapted", metric, shots, genres)
            result[f"adapted_{metric}_{shots}"] = float(ours.mean())
            for other in METHODS[1:]:
                theirs = figures(other, metric, shots, genres)
                compared = paired_difference(ours, theirs, f"{metric} after {shots}")
                print(f"adapted - {other}: {compared}")
                result[f"{other}_{metric}_{shots}"] = float(theirs.mean())
                result[f"{other}_{metric}_{shots}_p"] = compared.p
    result["by_genre"] = {
        genre: {
            f"{method}_{metric}_5": float(figures(method, metric, 5, [genre]).mean())
            for method in METHODS
            for metric in METRICS
        }
        for genre in genres
    }
    arguments.finish(result, chosen)


if __name__ == "__main__":
    main()
