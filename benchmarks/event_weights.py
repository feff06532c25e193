"""Event weights and a target, compared with all events alike, on two made-up shop logs.

In both shops each user has a taste, and buys by it. The metric is NDCG@10 of each user's last
purchase over the whole catalogue without the items that the user has bought; the last but one is
for validation (`split_leave_last_out` with the target "purchase").

*Views mislead*: users view what the shop shows on its pages, which depends on interests that have
nothing to do with their taste, and view it much more often than they buy. Carts follow the taste
with some noise. The declared weights are 1 for a view, 3 for a cart and 10 for a purchase.

*Weights mislead*: views follow the taste, too, but the declared weights favour the event "share",
which is random: 1 for a view and for a purchase, 10 for a share.

Each model is trained on the same events, with the weights and without them (`use_weights`). The
settings of iALS and EASE are chosen on the validation purchases, for each of the two separately;
the two-tower model has one setting. "Chosen" is whichever of the two has the higher NDCG@10 on the
validation purchases, as a search with `tune` would choose. Each seed makes other shops. Differences
are paired by user, with an interval from resampling users.

With `--folder`, finished parts are kept there, and the same call resumes a stopped run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.evaluation.intervals import paired_difference
from tfrec_meta.models import EASEConfig, IALSConfig

USERS, ITEMS, TASTES = 1000, 300, 6
SHOPS: Mapping[str, tm.Feedback] = {
    "views_mislead": tm.Feedback(
        event_weights={"view": 1, "cart": 3, "purchase": 10}, target=("purchase",)
    ),
    "weights_mislead": tm.Feedback(
        event_weights={"view": 1, "share": 10, "purchase": 1}, target=("purchase",)
    ),
}
_TOWER = tm.Strategy(
    "two_tower",
    tm.TwoTowerConfig(embedding_dim=32, negatives="full"),
    tm.TrainingConfig(epochs=6, batch_size=512),
)
STRATEGIES: Mapping[str, Sequence[tm.Strategy]] = {
    "ials": [
        tm.Strategy("ials", IALSConfig(32, l2, unseen, iterations=10))
        for l2, unseen in ((3.0, 0.3), (10.0, 0.3), (30.0, 0.3), (10.0, 0.1), (30.0, 1.0))
    ],
    "ease": [tm.Strategy("ease", EASEConfig(l2)) for l2 in (30.0, 100.0, 300.0, 1000.0)],
    "two_tower": [_TOWER],
}


def shop(kind: str, seed: int, users: int) -> tm.Interactions:
    """The log of a shop, with the declared feedback."""
    rng = np.random.default_rng([seed, list(SHOPS).index(kind)])
    item_tastes = rng.normal(size=(ITEMS, TASTES))
    appeal = rng.normal(size=ITEMS)  # some items sell better to everyone
    taste = 1.2 * rng.normal(size=(users, TASTES)) @ item_tastes.T + 0.5 * appeal
    # What the pages show: other interests, and other popular items.
    shown = 1.2 * rng.normal(size=(users, TASTES)) @ rng.normal(size=(TASTES, ITEMS))
    shown += rng.normal(size=ITEMS)
    noise = np.zeros((users, ITEMS))
    if kind == "views_mislead":
        sources = {"view": (shown, 30), "cart": (0.5 * taste, 6), "purchase": (taste, 8)}
    else:
        sources = {"view": (taste, 15), "share": (noise, 15), "purchase": (taste, 8)}
    events: list[tuple[np.ndarray, np.ndarray, str]] = []
    for name, (utility, count) in sources.items():
        # The largest of utilities with Gumbel noise are draws without replacement from a softmax.
        drawn = np.argsort(-(utility + rng.gumbel(size=utility.shape)), axis=1)[:, :count]
        events.append((np.repeat(np.arange(users), count), rng.permuted(drawn, axis=1), name))
    user = np.concatenate([who for who, _, _ in events])
    item = np.concatenate([what.ravel() for _, what, _ in events])
    types = np.concatenate([np.full(what.size, name) for _, what, name in events])
    moment = rng.permutation(len(user))
    data = tm.Interactions.from_arrays(
        np.char.add("u", user.astype(str)).tolist(),
        np.char.add("i", item.astype(str)).tolist(),
        moment,
        further={"event_type": types.tolist()},
        name=kind,
    )
    return data.with_feedback(SHOPS[kind])


def of_users(model: Any, split: tm.Split) -> np.ndarray:
    """NDCG@10 of each user with a test event."""
    (found,) = tm.evaluate(model, split, baselines=(), resamples=0).values()
    return found.per_query["ndcg@10"]


def measure(
    split: tm.Split, strategies: Sequence[tm.Strategy], use_weights: bool
) -> dict[str, Any]:
    """The best strategy on validation: its validation NDCG@10, and that of each test user."""
    inner = dataclasses.replace(
        split,
        validation_index=np.empty(0, np.int64),
        past_only_index=np.empty(0, np.int64),
        test_index=split.validation_index,
    )
    best: dict[str, Any] = {"validation": -1.0}
    for strategy in strategies:
        strategy = dataclasses.replace(strategy, use_weights=use_weights)
        model = tm.train(split.train, strategy, progress=False)
        value = float(np.nanmean(of_users(model, inner)))
        if value > best["validation"]:
            config = dataclasses.asdict(strategy.model)
            best = {"validation": value, "model": config, "users": of_users(model, split).tolist()}
    return best


def run(options: argparse.Namespace) -> dict[str, Any]:
    seeds = range(options.seed, options.seed + (1 if options.quick else 3))
    users = 200 if options.quick else USERS
    folder = None if options.folder is None else Path(options.folder)
    result: dict[str, Any] = {}
    for family, strategies in STRATEGIES.items():
        if options.quick:
            recipe = dataclasses.replace(strategies[0].training, epochs=2)
            strategies = [dataclasses.replace(strategies[0], training=recipe)]
        for kind in SHOPS:
            found: dict[str, list[float]] = {"weighted": [], "unweighted": [], "chosen": []}
            uses_weights = 0
            for seed in seeds:
                split = tm.split_leave_last_out(shop(kind, seed, users))
                both = {
                    name: arguments.part(
                        f"{kind}-{family}-{name}-{seed}-{users}",
                        lambda split=split, strategies=strategies, use=(name == "weighted"): (
                            measure(split, strategies, use)
                        ),
                        folder,
                    )
                    for name in ("weighted", "unweighted")
                }
                chosen = max(both, key=lambda name: both[name]["validation"])
                uses_weights += chosen == "weighted"
                for name, one in {**both, "chosen": both[chosen]}.items():
                    found[name] += one["users"]
            first = "weighted" if kind == "views_mislead" else "chosen"
            prefix = "" if kind == "views_mislead" else "misleading_"
            gain = paired_difference(found[first], found["unweighted"], "ndcg@10")
            for name in (first, "unweighted") if not prefix else found:
                result[f"{prefix}{name}_{family}"] = float(np.mean(found[name]))
            result[f"{prefix}{first}_minus_unweighted_{family}"] = gain.difference
            result[f"{prefix}{first}_minus_unweighted_{family}_interval"] = [gain.low, gain.high]
            result[f"{prefix}chose_weights_{family}"] = f"{uses_weights} of {len(seeds)}"
            print(json.dumps(result), file=sys.stderr, flush=True)
    return {**result, "users": users, "seeds": len(seeds)}


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments.parse(__doc__ or "", argv, values=arguments.FOLDER)
    options.data = "made up"
    arguments.finish(run(options), options)


if __name__ == "__main__":
    main()
