"""InfraValidator: the candidate is loaded and asked by a real server before it goes out.

TFX's own knows Docker and Kubernetes only. By default ours starts the product's local server;
`server="docker"` is the stock one with TF Serving's image. Both ask with the same requests.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging
from tensorflow_serving.apis import predict_pb2
from tfx import components, types
from tfx.components.infra_validator import executor as stock
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.proto import infra_validator_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.types import standard_component_specs as standard
from tfx.utils import path_utils, proto_utils

from tfrec_meta.export import signatures as names
from tfrec_meta.pipeline import config as configs
from tfrec_meta.pipeline.components import driver
from tfrec_meta.pipeline.components.server_probe import Refused, try_out
from tfrec_meta.pipeline.config import InfraValidatorConfig
from tfrec_meta.pipeline.request_rows import as_request, read_types

SPLIT = "test"
CANDIDATE = "candidate"  # the model's name at TF Serving's image
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
    return DockerInfraValidator(
        model=model,
        examples=examples,
        serving_spec=infra_validator_pb2.ServingSpec(
            model_name=CANDIDATE,
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
        saved_model = _saved_model(input_dict)
        samples = _requests(input_dict, config.requests)
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


class DockerExecutor(stock.Executor):
    """The stock one, with requests of ours.

    Its own are rows as they are, of which our signatures would refuse whole numbers; and it makes
    them only for inputs whose rank the SavedModel fixes, which ours check in the graph instead.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See the base class."""
        told = dict(exec_properties)
        spec = infra_validator_pb2.RequestSpec()
        proto_utils.json_to_proto(told.pop(standard.REQUEST_SPEC_KEY), spec)  # so it makes none
        self._asked = [_predict(row) for row in _requests(input_dict, spec.num_examples)]
        super().Do(input_dict, output_dict, told)

    def _ValidateWithRetry(self, *, requests: list[Any], **further: Any) -> bool:
        return super()._ValidateWithRetry(requests=[*requests, *self._asked], **further)


def _predict(row: bytes) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = CANDIDATE
    request.model_spec.signature_name = names.SERVING_DEFAULT
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([row]))
    return request


class DockerInfraValidator(components.InfraValidator):
    """The stock component with `DockerExecutor`."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(DockerExecutor)


def _saved_model(inputs: dict[str, list[types.Artifact]]) -> str:
    return path_utils.serving_model_path(artifact_utils.get_single_uri(inputs["model"]))


def _requests(inputs: dict[str, list[types.Artifact]], count: int) -> list[bytes]:
    """The first rows of the split, serialised, as the candidate reads them."""
    split = Path(artifact_utils.get_split_uri(inputs["examples"], SPLIT))
    files = sorted(str(path) for path in split.iterdir() if path.is_file())
    compression = "GZIP" if all(name.endswith(".gz") for name in files) else ""
    rows = tf.data.TFRecordDataset(files, compression_type=compression).as_numpy_iterator()
    reads = read_types(_saved_model(inputs))
    return [as_request(row, reads) for row in itertools.islice(rows, count)]


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
