"""Whether a folder's study is the one that a search is to go on with, and if not, what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.training import write_whole

_TOLD = ("objective", "oracle", "epochs", "seed")  # others are digests, or long


def check_same_study(folder: Path, study: Mapping[str, Any], *, begin: bool = True) -> None:
    """Leaves `study.json` in a new study's folder, and compares with it in an old one's.

    Args:
        folder: of the study.
        study: what tells it from others, ready for JSON: `objective`, `space` (KerasTuner's list
            of hyperparameters), and whatever else.
        begin: whether a study may begin here; a worker joins one that its chief began.

    Raises:
        ValueError: if the folder holds a study of something else, with what differs by name.
        FileNotFoundError: if there is none, and none may begin.
    """
    study = json.loads(json.dumps(study))  # as it is read: no tuples
    path = folder / "study.json"
    if not path.exists():
        if not begin:
            raise FileNotFoundError(
                f"{path} is not there: no chief has begun. Chief and workers have to see the same "
                "folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(study, indent=1))
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [
        key + _difference(key, before.get(key), study.get(key))
        for key in {**before, **study}
        if before.get(key) != study.get(key)
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a study with another {', another '.join(changed)}. Use another "
            "folder, or remove that one to search anew."
        )


def _difference(key: str, before: Any, now: Any) -> str:
    if key in _TOLD:
        return f" ({before!r}, now {now!r})"
    if key == "space" and before and now:
        return f" ({space_difference(before, now)})"
    return ""


def space_difference(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    """Which hyperparameters were added, removed and changed, and of the latter how.

    Args:
        before: KerasTuner's list, as `HyperParameters.get_config()["space"]`.
        now: another.
    """
    old, new = ({p["config"]["name"]: p for p in space} for space in (before, now))
    told = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [
            f"{name} from {was} to {now}"
            for name in old
            if name in new and old[name] != new[name]
            for was, now in [_two_ranges(old[name], new[name])]
        ],
    }
    parts = [f"{how}: {', '.join(names)}" for how, names in told.items() if names]
    return "; ".join(parts) or "in another order"


def _two_ranges(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """Both as "Choice(values=[16, 32])": the kind, and of its settings those that differ."""
    first, second = _settings(before), _settings(now)
    differ = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    if before["class_name"] != now["class_name"]:
        differ = [name for name in {**first, **second} if name != "conditions"]
    texts = [
        f"{kind}({', '.join(f'{name}={its[name]!r}' for name in differ if name in its)})"
        for kind, its in ((before["class_name"], first), (now["class_name"], second))
    ]
    return texts[0], texts[1]


def _settings(parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in parameter["config"].items() if k != "name" and v is not None}
