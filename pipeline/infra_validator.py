"""InfraValidator: the candidate is loaded and asked by a real server before it goes out.

TFX's own knows Docker and Kubernetes only. By default ours starts the product's local server;
`server="docker"` is the stock one with TF Serving's image.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrec_meta import keras  # noqa: F401  (chooses Keras 2 before TFX imports KerasTuner)
from tfrec_meta.export import signatures as names
from tfrec_meta.pipeline import configs, driver
from tfrec_meta.pipeline.configs import InfraValidatorConfig
from tfrec_meta.pipeline.request_rows import as_request, read_types
from tfrec_meta.pipeline.trial_serving import Refused, try_out

import tensorflow as tf
from absl import logging
from tfx import components, types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.proto import infra_validator_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import path_utils

SPLIT = "test"
BLESSED, NOT_BLESSED = "INFRA_BLESSED", "INFRA_NOT_BLESSED"  # the stock executor's files


def infra_validator(
    model: types.BaseChannel, examples: types.BaseChannel, config: InfraValidatorConfig
) -> base_component.BaseComponent:
    """Ours, or the stock one with Docker; `outputs["blessing"]` either way.

    The stock one knows no limit of memory, and its limit of time is for loading alone.
    """
    if config.server == "local":
        return InfraValidator(model=model, examples=examples, config=config)
    image, tag = _image_and_tag(config.image)
    return components.InfraValidator(
        model=model,
        examples=examples,
        serving_spec=infra_validator_pb2.ServingSpec(
            tensorflow_serving=infra_validator_pb2.TensorFlowServing(image_name=image, tags=[tag]),
            local_docker=infra_validator_pb2.LocalDockerConfig(),
        ),
        validation_spec=infra_validator_pb2.ValidationSpec(
            max_loading_time_seconds=config.seconds, num_tries=1
        ),
        request_spec=infra_validator_pb2.RequestSpec(
            tensorflow_serving=infra_validator_pb2.TensorFlowServingRequestSpec(
                signature_names=[names.SERVING_DEFAULT]
            ),
            split_name=SPLIT,
            num_examples=config.requests,
        ),
    )


def _image_and_tag(image: str) -> tuple[str, str]:
    """ "host:5000/serving:2.19" is the image "host:5000/serving" with the tag "2.19"."""
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


class Executor(base_executor.BaseExecutor):
    """Tries the candidate out by `trial_serving`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the blessing as the stock executor does, and `reason` in words.

        A refusal raises nothing: the Pusher then does not push.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = configs.from_json(InfraValidatorConfig, exec_properties["config"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        split = artifact_utils.get_split_uri(input_dict["examples"], SPLIT)
        saved_model = path_utils.serving_model_path(model.uri)
        reads = read_types(saved_model)
        samples = [as_request(row, reads) for row in _samples(Path(split), config.requests)]
        try:
            answered = try_out(saved_model, samples, config.seconds, config.memory_mb)
        except Refused as refusal:
            blessed, reason = 0, f"Refused: {refusal}."
        else:
            blessed, reason = 1, f"It loads, and answered {answered} requests."
        logging.info("InfraValidator: %s", reason)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        folder = Path(blessing.uri)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / (BLESSED if blessed else NOT_BLESSED)).write_text("", encoding="utf-8")
        blessing.set_int_custom_property("blessed", blessed)
        blessing.set_string_custom_property("reason", reason)


def _samples(split: Path, count: int) -> list[bytes]:
    """The first rows of a split, serialised."""
    files = sorted(str(path) for path in split.iterdir() if path.is_file())
    compression = "GZIP" if all(name.endswith(".gz") for name in files) else ""
    rows = tf.data.TFRecordDataset(files, compression_type=compression).as_numpy_iterator()
    return list(itertools.islice(rows, count))


class Driver(driver.Driver):
    """Adds how many candidates were refused so far: what was refused once is tried again.

    A refusal may come from a busy machine, and from the cache it would come for ever.
    """

    def properties(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """See the base class."""
        with self._mlmd_connection as metadata:
            blessings = metadata.store.get_artifacts_by_type(
                standard_artifacts.InfraBlessing.TYPE_NAME
            )
        refused = [one for one in blessings if one.custom_properties["blessed"].int_value == 0]
        return {"refused": len(refused)}


class InfraValidatorSpec(types.ComponentSpec):
    """What InfraValidator reads and writes."""

    PARAMETERS = {"config": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class InfraValidator(base_component.BaseComponent):
    """Serves the candidate locally and asks it.

    Args:
        model: the candidate.
        examples: of Histories; rows of the split `test` are the sample requests.
        config: limits.
    """

    SPEC_CLASS = InfraValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(
        self, model: types.BaseChannel, examples: types.BaseChannel, config: InfraValidatorConfig
    ):
        super().__init__(
            InfraValidatorSpec(
                model=model,
                examples=examples,
                config=configs.as_json(config),
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
