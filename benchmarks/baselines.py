"""Baselines of `tm.evaluate`, compared with models of the same families on the same split.

The split is by time: the earliest 80 % of the events for training, the next 10 % for validation,
the latest for test, so that most test users have no history and get the popular items.
`tm.evaluate` chooses the settings of each baseline on the validation part and fits it on train and
validation. The model of the same name is trained here by `tm.train` with these settings on the same
events, and is evaluated as a model. `max_difference` is the largest difference of NDCG@10 and
recall@10 between the two, over the four baselines; `default_max_difference` is that with the
default settings of the families.

The `*_known` and `*_new` figures are those of known and new test users. As an independent check,
iALS and item-kNN of the library `implicit` are fitted on the same events with our default settings,
and users without history get the popular items; compare `implicit_*` with `default_*`.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

import tfrec_meta as tm
from benchmarks import arguments, peers
from tfrec_meta.evaluation import Evaluation, Group
from tfrec_meta.models import IALSConfig, ItemKNNConfig
from tfrec_meta.strategy import Strategy
from tfrec_meta.workflows.baselines import BASELINES

_WHOLE_HISTORY = 1000  # items; baselines use all items of a user
_METRICS = ("ndcg@10", "recall@10")


def as_model(
    split: tm.Split, spec: tm.FeatureSpec, name: str, config: Any, seed: int
) -> Evaluation:
    """Trains a family on train and validation, and evaluates it as a model."""
    strategy = Strategy(name, config, tm.TrainingConfig(seed=seed))
    model = tm.train(split.past, strategy, features=spec, progress=False)
    (found,) = tm.evaluate(model, split, baselines=(), resamples=0).values()
    return found


def largest_difference(a: Evaluation, b: Evaluation) -> float:
    """Returns the largest difference of a metric."""
    return max(abs(a[metric].value - b[metric].value) for metric in _METRICS)


def config_of(name: str, settings: dict[str, Any]) -> Any:
    """Returns the config of a baseline's settings."""
    return dataclasses.replace(BASELINES[name].model, **settings)


def of_implicit(split: tm.Split, spec: tm.FeatureSpec) -> dict[str, float]:
    """Returns the NDCG@10 of implicit's iALS and BM25 item-kNN, with our default settings."""
    knn, ials = ItemKNNConfig(), IALSConfig()
    # implicit weights observed pairs by alpha and others by 1; ours by 1 and `unseen_weight`.
    regularization, alpha = ials.l2 / ials.unseen_weight, 1 / ials.unseen_weight
    fits = {
        "item_knn": functools.partial(
            peers.item_knn_scores, neighbours=knn.neighbours, k1=knn.k1, b=knn.b
        ),
        "ials": functools.partial(
            peers.ials_scores,
            factors=ials.embedding_dim,
            regularization=regularization,
            alpha=alpha,
            iterations=ials.iterations,
        ),
    }
    found = peers.evaluate_peers(spec, split, fits, resamples=0)
    return {f"implicit_{name}_ndcg_at_10": one["ndcg@10"].value for name, one in found.items()}


def main() -> None:
    """Evaluates, compares, prints."""
    chosen = arguments.parse(__doc__)
    split = tm.split_by_time(arguments.load(chosen.data))
    print(split, file=sys.stderr)
    spec = tm.FeatureSpec.infer(split.train, _WHOLE_HISTORY).fit(split.train)
    popular = tm.train(split.train, "popularity", features=spec, progress=False)
    result: dict[str, Any] = {}
    tables = {}
    for label, tune in (("", not chosen.quick), ("default_", False)):
        found = tm.evaluate(popular, split, tune_baselines=tune)
        tables[label] = found
        differences = []
        for name in BASELINES:
            key = name if name in found.settings else f"{name} (baseline)"
            baseline = found[key]
            config = config_of(name, dict(found.settings[key].config))
            model = as_model(split, spec, name, config, BASELINES[name].training.seed)
            differences.append(largest_difference(baseline, model))
            result[f"{label}{name}_ndcg_at_10"] = baseline["ndcg@10"].value
            result[f"{label}{name}_model_ndcg_at_10"] = model["ndcg@10"].value
            for short, group in (("known", Group.KNOWN_USERS), ("new", Group.NEW_USERS)):
                value = baseline.groups[group].metrics["ndcg@10"].value
                result[f"{label}{name}_{short}_ndcg_at_10"] = value
            if not label:
                result[f"{name}_settings"] = str(found.settings[key])
        result[f"{label}max_difference"] = max(differences)
    result |= of_implicit(split, spec)
    counts = tables[""]["popularity"].groups
    result["known_users"] = counts[Group.KNOWN_USERS].counts["queries"]
    result["new_users"] = counts[Group.NEW_USERS].counts["queries"]
    print(tables[""])
    arguments.finish(result, chosen)


if __name__ == "__main__":
    main()
