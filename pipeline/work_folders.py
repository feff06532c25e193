"""Folders that survive a kill: the same node on the same inputs finds its own again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfx import types
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as standard
from tfx.utils import json_utils

from tfrec_meta.pipeline.config import PipelineConfig

Inputs = Mapping[str, list[types.Artifact]]


def root(config: PipelineConfig) -> str:
    """Where all nodes of a pipeline have theirs: the execution property `work`."""
    return str(config.folder / "work")


@contextlib.contextmanager
def held(kind: str, inputs: Inputs, exec_properties: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of one node's work on these inputs, with these settings; not made yet.

    Nobody else has it meanwhile: a second run on the same data waits, and a kill lets go. Once the
    block has ended well, the folder is removed.
    """
    folder = _folder(kind, inputs, exec_properties)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside, not in it: what has finished leaves nothing there.
    with open(folder.parents[1] / f".{kind}-{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        remove(folder)


def _folder(kind: str, inputs: Inputs, exec_properties: Mapping[str, Any]) -> Path:
    told = {
        "inputs": {key: [artifact.uri for artifact in given] for key, given in inputs.items()},
        "settings": exec_properties[standard.CUSTOM_CONFIG_KEY],
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return Path(exec_properties["work"]) / kind / digest[:16]


def told(folder: Path, inputs: Inputs, exec_properties: Mapping[str, Any]) -> dict[str, Any]:
    """The execution properties, whose `custom_config` has `folder` and `catalogue`, too."""
    config = json_utils.loads(exec_properties[standard.CUSTOM_CONFIG_KEY])
    catalogue = artifact_utils.get_single_uri(inputs["catalogue"])
    config |= {"folder": str(folder), "catalogue": catalogue}
    return {**exec_properties, standard.CUSTOM_CONFIG_KEY: json_utils.dumps(config)}


def remove(folder: Path) -> None:
    """Clears up, so that the next attempt begins anew."""
    shutil.rmtree(folder, ignore_errors=True)
