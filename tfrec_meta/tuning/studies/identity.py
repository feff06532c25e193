"""Checks whether a folder holds the study that a search is to continue."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.io.damage import read_json
from tfrec_meta.io.files import write_text

FOLDER_FORMAT = 2
"""The format of study folders; tfrec-meta 0.1 wrote format 1, without a number."""

_SHOWN = ("objective", "oracle", "epochs", "seed")  # other facts are digests, or too long


def check_study_identity(folder: Path, identity: Mapping[str, Any], *, create: bool = True) -> None:
    """Writes `study.json` into a new study's folder, and compares an existing one with it.

    Args:
        folder: of the study.
        identity: facts that distinguish the study from others, ready for JSON: `objective`,
            `space` (KerasTuner's list of hyperparameters), and any others.
        create: whether a new study may be created; workers only join a study of their chief.

    Raises:
        ValueError: if the folder holds another study, with what differs, or a study of an
            unsupported format.
        FileNotFoundError: if the folder holds no study and `create` is false.
    """
    identity = json.loads(json.dumps({"format": FOLDER_FORMAT, **identity}))  # lists, not tuples
    path = folder / "study.json"
    if not path.exists():
        if not create:
            raise FileNotFoundError(
                f"{path} does not exist, so no chief has started. Start the chief; chief and "
                "workers must see the same folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(identity, indent=1))
        return
    before = read_json(path, f"Use another folder, or remove {folder} to start a new search")
    _check_format(folder, before.get("format", 1))
    changed = [
        key + _difference(key, before.get(key), identity.get(key))
        for key in {**before, **identity}
        if before.get(key) != identity.get(key)
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a study with another {', another '.join(changed)}. Use another "
            "folder, or remove this one to start a new search."
        )


def _check_format(folder: Path, found: Any) -> None:
    if found == FOLDER_FORMAT:
        return
    if found == 1:
        raise ValueError(
            f"{folder} holds a study folder of tfrec-meta 0.1 (format 1), but this version reads "
            f"format {FOLDER_FORMAT}. Its finished trials can be reused: run `tfrec-meta studies "
            f"import {folder}`, then search in another folder. Or finish it with version 0.1."
        )
    raise ValueError(
        f"{folder} holds a study folder of format {found}, but this version reads format "
        f"{FOLDER_FORMAT}. Upgrade tfrec-meta, or use another folder."
    )


def _difference(key: str, before: Any, now: Any) -> str:
    if key in _SHOWN:
        return f" ({before!r}, now {now!r})"
    if key == "space" and before and now:
        return f" ({space_difference(before, now)})"
    return ""


def space_difference(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    """Describes which hyperparameters were added, removed or changed.

    Args:
        before: KerasTuner's list, as `HyperParameters.get_config()["space"]`.
        now: another such list.
    """
    old, new = ({p["config"]["name"]: p for p in space} for space in (before, now))
    changes = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "changed": [
            f"{name} from {was} to {now}"
            for name in old
            if name in new and old[name] != new[name]
            for was, now in [_two_ranges(old[name], new[name])]
        ],
    }
    parts = [f"{change}: {', '.join(names)}" for change, names in changes.items() if names]
    return "; ".join(parts) or "in another order"


def _two_ranges(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """Formats the kind and the differing settings of both, as "Choice(values=[16, 32])"."""
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
