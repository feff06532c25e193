"""The identity of a run: a folder resumes only the run that began in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.data import Interactions
from tfrec_meta.features import FeatureSpec
from tfrec_meta.io.damage import read_json
from tfrec_meta.io.digests import digest_of
from tfrec_meta.io.files import write_text
from tfrec_meta.models.base.contract import Recommender, Teacher
from tfrec_meta.models.base.trainable import TrainableRecommender
from tfrec_meta.training.config import TrainingConfig
from tfrec_meta.training.validation import Validation

Identity = Mapping[str, Mapping[str, Any]]


def run_identity(
    model: TrainableRecommender, config: TrainingConfig, digests: Mapping[str, str | None]
) -> Identity:
    """Returns everything that decides the result of a run, as plain values for JSON.

    Args:
        model: the model, once it is prepared for the data.
        config: the recipe.
        digests: digests of the other inputs by name: events, warm start, teacher, validation.
    """
    features = (*model.user_table.values(), *model.item_table.values())
    tables = digest_of(*(variable.numpy() for variable in features))
    record = {
        "training": dataclasses.asdict(config),
        "model": dataclasses.asdict(model.config),
        "features": _features(model.spec),
        "data": {**digests, "tables": tables},
    }
    identity: Identity = json.loads(json.dumps(record))
    return identity


def check_same_run(folder: Path, identity: Identity, write: bool) -> None:
    """Checks that a folder is new or holds the same run.

    Args:
        folder: the folder of the run; it is made if it is missing.
        identity: what `run_identity` returned.
        write: whether to write the identity into a new folder. One process of several does.

    Raises:
        ValueError: if the folder holds a run with another identity; names what differs.
        DamagedFile: if its `run.json` is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    if not path.exists():
        if write:
            write_text(path, json.dumps(identity, indent=1))
        return
    before = read_json(path, f"Remove {folder} to train from the start, or use another folder")
    changed = [
        f"{part}.{key}"
        for part, values in identity.items()
        for key, value in values.items()
        if _part(before, part).get(key) != value
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(changed)}). "
            "Use another folder, or remove this one to start again."
        )


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = record.get(name)
    return part if isinstance(part, dict) else {}


def digest_of_model(model: Recommender | Teacher | None) -> str | None:
    """Returns a digest of all that a model learned, members included; None without a model."""
    if model is None:
        return None
    members = [str(digest_of_model(member)).encode() for member in getattr(model, "members", ())]
    return digest_of(*model.state().values(), *members)


def _features(spec: FeatureSpec) -> dict[str, Any]:
    return {
        **spec.declaration(),
        "statistics": spec.statistics,
        "vocabularies": {
            key: digest_of("\n".join(vocabulary.tokens.to_pylist()).encode())
            for key, vocabulary in spec.vocabularies.items()
        },
    }


def digest_of_validation(
    data: Interactions | Validation | None, recommend_history: bool = False
) -> str:
    """Returns a digest of the validation events and their protocol; "" if there are no events.

    Args:
        data: the events, or a `Validation`, which has its own protocol.
        recommend_history: whether items of the users' histories are ranked.
    """
    if isinstance(data, Validation):
        return digest_of_validation(data.events, data.recommend_history)
    if data is None or not len(data):
        return ""
    return data.digest() + (" with the history" if recommend_history else "")
