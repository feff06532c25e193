"""Work folders of nodes that survive a kill: the same node on the same inputs reuses its own."""

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


def work_root(config: PipelineConfig) -> str:
    """Returns the folder of all work folders of a pipeline: the execution property `work`."""
    return str(config.folder / "work")


@contextlib.contextmanager
def locked_folder(kind: str, inputs: Inputs, exec_properties: Mapping[str, Any]) -> Iterator[Path]:
    """Yields the work folder of one node for these inputs and settings; it may not exist yet.

    The folder is locked: a second run on the same data waits, and a kill releases the lock. The
    folder is removed when the block ends without an exception.
    """
    folder = _folder(kind, inputs, exec_properties)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Next to the folders, not among them: a finished node leaves nothing there.
    with open(folder.parents[1] / f".{kind}-{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
        remove(folder)


def _folder(kind: str, inputs: Inputs, exec_properties: Mapping[str, Any]) -> Path:
    identity = {
        "inputs": {key: [artifact.uri for artifact in given] for key, given in inputs.items()},
        "settings": exec_properties[standard.CUSTOM_CONFIG_KEY],
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Path(exec_properties["work"]) / kind / digest[:16]


def with_paths(folder: Path, inputs: Inputs, exec_properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the execution properties with `folder` and `catalogue` added to `custom_config`."""
    config = json_utils.loads(exec_properties[standard.CUSTOM_CONFIG_KEY])
    catalogue = artifact_utils.get_single_uri(inputs["catalogue"])
    config |= {"folder": str(folder), "catalogue": catalogue}
    return {**exec_properties, standard.CUSTOM_CONFIG_KEY: json_utils.dumps(config)}


def remove(folder: Path) -> None:
    """Removes a work folder, so that the next attempt starts from the beginning."""
    shutil.rmtree(folder, ignore_errors=True)
