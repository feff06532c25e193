"""Synthetic studies, for the tests of pages, tables and logs."""

import json
import math

from tfrec_meta.tuning.studies.trial_records import default_values
from tfrec_meta.tuning.surrogates.importance import random_points


def hp(kind, name, conditions=None, **config):
    """Returns an entry of a space, as KerasTuner writes it; conditions are {parent: values}."""
    parents = [
        {"class_name": "Parent", "config": {"name": parent, "values": values}}
        for parent, values in (conditions or {}).items()
    ]
    if kind in ("Int", "Float"):
        config = {"step": 1 if kind == "Int" else None, "sampling": "linear", **config}
    if kind == "Choice":
        config = {"ordered": not isinstance(config["values"][0], str), **config}
    return {"class_name": kind, "config": {"name": name, "conditions": parents, **config}}


NEURAL = {"family": ["two_tower"]}
SPACE = [
    hp("Choice", "family", values=["two_tower", "ials"], default="two_tower"),
    hp("Choice", "two_tower/embedding_dim", NEURAL, values=[16, 32, 64, 128], default=64),
    hp("Boolean", "two_tower/hidden_layer", NEURAL, default=False),
    hp("Choice", "two_tower/loss", NEURAL, values=["softmax", "bpr", "binary_cross_entropy"]),
    hp(
        "Float",
        "two_tower/label_smoothing",
        {**NEURAL, "two_tower/loss": ["softmax"]},
        min_value=0.0,
        max_value=0.3,
        step=0.05,
        default=0.0,
    ),
    hp(
        "Float",
        "two_tower/training/learning_rate",
        NEURAL,
        min_value=5e-4,
        max_value=5e-2,
        sampling="log",
        default=5e-3,
    ),
    hp("Fixed", "two_tower/training/rows", NEURAL, value="windows"),
    hp("Choice", "ials/embedding_dim", {"family": ["ials"]}, values=[32, 64, 128], default=64),
    hp("Int", "ials/iterations", {"family": ["ials"]}, min_value=5, max_value=30, default=15),
]


def header(space=SPACE, **changes):
    record = {
        "kind": "study",
        "study_id": "movies-7f3a",
        "schema": 2,
        "space": space,
        "space_version": 1,
        "objective": "val_ndcg@10",
        "direction": "max",
        "protocol": "leave-last-out",
        "budget_unit": "epochs",
        "budget": 8,
        "oracle": "meta_bayesian",
        "seed": 42,
        "created": "2026-11-26T04:00:00+00:00",
        "source": "tfrec-meta",
        "data": {"name": "movielens-100k", "fingerprint": "ab12", "description": "100,000 ratings"},
        "profile": None,
        "text_embedding": None,
    }
    return json.loads(json.dumps({**record, **changes}))


def trial(number, values, value, **changes):
    record = {
        "kind": "trial",
        "study_id": "movies-7f3a",
        "trial_id": f"{number:04d}",
        "values": values,
        "strategy": None,
        "value": value,
        "status": "completed" if value is not None else "failed",
        "error": None if value is not None else "ValueError: no such thing",
        "curve": [],
        "budget": 8,
        "seconds": 12.5,
        "seed": 42,
        "ended": f"2026-11-26T04:{number % 60:02d}:00+00:00",
        "suggested_by": "surrogate",
        "expected": None,
    }
    return {**record, **changes}


def true_objective(values):
    """Returns a smooth objective over `SPACE`, best near learning rate 0.02 and 128 dimensions."""
    if values["family"] == "ials":
        return 0.24 + 0.02 * math.log2(values["ials/embedding_dim"] / 32)
    distance = math.log10(values["two_tower/training/learning_rate"] / 0.02)
    loss = {"softmax": 0.03, "bpr": 0.0, "binary_cross_entropy": 0.015}[values["two_tower/loss"]]
    size = 0.015 * math.log2(values["two_tower/embedding_dim"] / 16)
    return (
        0.25 - 0.06 * distance**2 + loss + size - values.get("two_tower/label_smoothing", 0) * 0.05
    )


def surrogate(points):
    return [true_objective(point) for point in points], [0.01] * len(points)


def study(count=30, seed=1):
    """Returns a header and trials with all statuses, the default first."""
    points = [default_values(SPACE), *random_points(SPACE, count, seed)]
    trials = []
    for number, values in enumerate(points[:count]):
        value = true_objective(values) + 0.004 * math.sin(17 * number)
        curve = [value * (1 - 0.6 * math.exp(-0.6 * epoch)) for epoch in range(1, 9)]
        record = trial(number, values, value, curve=curve, seconds=20 + 9 * math.sin(number))
        record["expected"] = {
            "mean": true_objective(values) + 0.01 * math.cos(number),
            "std": 0.012,
        }
        if number == 0:
            record |= {"suggested_by": "default", "expected": None}
        elif number < 4:
            record["suggested_by"] = "prior"
        if number % 11 == 7:
            record |= {"value": None, "status": "failed", "curve": curve[:2], "budget": 2}
            record["error"] = "ResourceExhaustedError: OOM when allocating tensor [100000,128]"
        elif number % 13 == 9:
            record |= {"value": None, "status": "timed_out", "curve": curve[:4], "budget": 4}
            record["error"] = "it took longer than 40 s"
        elif number % 5 == 3:
            record |= {"value": curve[2], "status": "stopped", "curve": curve[:3], "budget": 3}
        family = values["family"]
        parts = {"family": family, "model": {}, "training": {}}
        for name, setting in values.items():
            if name.startswith(f"{family}/"):
                part = "training" if "/training/" in name else "model"
                parts[part][name.rpartition("/")[2]] = setting
        record["strategy"] = parts
        trials.append(record)
    return header(), trials


def suggestions(trials):
    """Returns suggestions of prior studies; all but the last were tried."""
    tried = [
        {"values": record["values"], "expected": 0.3 - 0.01 * rank}
        for rank, record in enumerate(trials[1:4])
    ]
    other = {**trials[0]["values"], "two_tower/embedding_dim": 16, "two_tower/loss": "bpr"}
    return [*tried, {"values": other, "expected": None}]
