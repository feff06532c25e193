"""Pusher: publishes a model that both gates blessed as the next served version, atomically.

The stock Pusher copies file by file into the version's folder, so that a kill leaves an incomplete
version, and it pushes a model again that is served already.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

from tfrec_meta.io.files import write_text
from tfrec_meta.io.stores import is_url
from tfrec_meta.pipeline.components.property_driver import PropertyDriver
from tfrec_meta.pipeline.serving_folder import Pushed, push, served

RECORD = "push.json"


class Executor(base_executor.BaseExecutor):
    """Pushes the model, or records why not."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it is blessed.

        `pushed_model` has the stock Pusher's custom properties `pushed` (1 or 0),
        `pushed_destination` and `pushed_version`, and in addition `new_version` (0 if the newest
        version is this model already) and `reason`. Its folder has the same values in `push.json`,
        but no second copy of the model.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed_model = artifact_utils.get_single_instance(output_dict["pushed_model"])
        serving = exec_properties["serving"]
        refusal = _refusal(input_dict)
        pushed = None
        if refusal:
            newest = int(served(serving).partition(" ")[0])
            state = f"version {newest} stays served" if newest else "no version is served yet"
            reason = f"Not pushed: {refusal}; {state}."
        else:
            model = artifact_utils.get_single_instance(input_dict["model"])
            pushed = push(path_utils.serving_model_path(model.uri), serving)
            reason = _pushed_words(pushed)
        logging.info(reason)
        _record(pushed_model, pushed, reason)


def _refusal(inputs: dict[str, list[types.Artifact]]) -> str:
    """Returns why the model must not be pushed; "" if it may be pushed."""
    gates = (
        ("model_blessing", "the ranking gate", model_utils.is_model_blessed),
        ("infra_blessing", "InfraValidator", model_utils.is_infra_validated),
    )
    reasons = []
    for name, gate, is_blessed in gates:
        # A gate that failed has no output, which counts as no blessing.
        found = inputs.get(name) or []
        if not found:
            reasons.append(f"{gate} did not evaluate it")
        elif not is_blessed(artifact_utils.get_single_instance(found)):
            reasons.append(f"{gate} did not bless it")
    return " and ".join(reasons)


def _pushed_words(pushed: Pushed) -> str:
    if pushed.is_new:
        return f"Pushed as version {pushed.version}."
    return f"Version {pushed.version} is this model already; no new version is pushed."


def _record(artifact: types.Artifact, pushed: Pushed | None, reason: str) -> None:
    record: dict[str, Any] = {"pushed": int(pushed is not None), "reason": reason}
    if pushed is not None:
        record["pushed_destination"] = str(pushed.folder)
        record["pushed_version"] = str(pushed.version)
        record["new_version"] = int(pushed.is_new)
    for name, value in record.items():
        if isinstance(value, int):
            artifact.set_int_custom_property(name, value)
        else:
            artifact.set_string_custom_property(name, value)
    write_text(Path(artifact.uri) / RECORD, json.dumps(record, indent=1))


class Driver(PropertyDriver):
    """Adds the served version and its digest: an earlier push is void if they changed."""

    def further_properties(self, exec_properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the newest version and its digest."""
        return {"served": served(exec_properties["serving"])}


class PusherSpec(types.ComponentSpec):
    """Inputs, outputs and parameters; `serving` is the folder of the served model."""

    PARAMETERS = {"serving": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
    }
    OUTPUTS = {"pushed_model": component_spec.ChannelParameter(type=standard_artifacts.PushedModel)}


class Pusher(base_component.BaseComponent):
    """Pushes a blessed model into the folder that TF Serving watches.

    Args:
        model: the candidate.
        model_blessing: of the ranking gate.
        infra_blessing: of InfraValidator.
        serving: folder of the served model, local or on an object store; its versions are
            `<serving>/<version>`.

    Outputs: `pushed_model`, the standard PushedModel.
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        infra_blessing: types.BaseChannel,
        serving: str,
    ):
        super().__init__(
            PusherSpec(
                model=model,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                serving=serving if is_url(serving) else os.path.abspath(serving),
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )
