"""Records of studies and trials, for the tests of the store."""

from typing import Any

SPACE: list[dict[str, Any]] = [
    {
        "class_name": "Choice",
        "config": {
            "name": "family",
            "default": "ials",
            "conditions": [],
            "values": ["ials", "ease"],
            "ordered": False,
        },
    },
    {
        "class_name": "Float",
        "config": {
            "name": "ials/l2",
            "default": 1.0,
            "conditions": [
                {"class_name": "Parent", "config": {"name": "family", "values": ["ials"]}}
            ],
            "min_value": 0.1,
            "max_value": 100.0,
            "step": None,
            "sampling": "log",
        },
    },
]


def study(study_id: str = "one", **fields: Any) -> dict[str, Any]:
    return {
        "kind": "study",
        "study_id": study_id,
        "schema": 2,
        "space": SPACE,
        "space_version": 1,
        "objective": "val_ndcg@10",
        "direction": "max",
        "protocol": "random",
        "budget_unit": "epochs",
        "budget": 8,
        "oracle": "bayesian",
        "seed": 42,
        "created": "2026-01-31T12:00:00+00:00",
        "source": "tfrec-meta",
        "data": {"name": "toy", "fingerprint": "f1", "description": "a toy"},
        "profile": {"log_users": 4.5},
        "text_embedding": None,
        **fields,
    }


def trial(trial_id: str = "0", study_id: str = "one", **fields: Any) -> dict[str, Any]:
    return {
        "kind": "trial",
        "study_id": study_id,
        "trial_id": trial_id,
        "values": {"family": "ials", "ials/l2": 2.5},
        "strategy": {"family": "ials", "model": {"l2": 2.5}},
        "value": 0.25,
        "status": "completed",
        "error": None,
        "curve": [0.125, 0.25],
        "budget": 2,
        "seconds": 1.5,
        "seed": 42,
        "ended": "2026-01-31T12:01:00+00:00",
        "suggested_by": "default",
        "expected": None,
        **fields,
    }


def failed(trial_id: str = "9", study_id: str = "one", **fields: Any) -> dict[str, Any]:
    fields = {"value": None, "status": "failed", "error": "it broke", "curve": [], **fields}
    return trial(trial_id, study_id, **fields)
