"""InfraValidator: loads the candidate in a real server and sends requests before it is pushed.

TFX's own component supports Docker and Kubernetes only. By default, this one starts the package's
local server; `server="docker"` is the stock component with TF Serving's image. Both send the same
requests.
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
from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline import config_values
from tfrec_meta.pipeline.components.answer_checks import Refused
from tfrec_meta.pipeline.components.property_driver import PropertyDriver
from tfrec_meta.pipeline.components.server_probe import probe
from tfrec_meta.pipeline.config import InfraValidatorConfig
from tfrec_meta.pipeline.request_rows import as_request, read_types

SPLIT = "test"
CANDIDATE = "candidate"  # the model's name in TF Serving's image
BLESSED, NOT_BLESSED = "INFRA_BLESSED", "INFRA_NOT_BLESSED"  # the stock executor's files


def infra_validator(
    model: types.BaseChannel, examples: types.BaseChannel, config: InfraValidatorConfig
) -> base_component.BaseComponent:
    """Returns this package's component, or the stock one for Docker; both output `blessing`.

    The stock component has no memory limit, and its time limit applies to loading only.
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
    """Tests the candidate with `server_probe`."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the blessing in the format of the stock executor, and the reason in words.

        A refusal raises no exception: the Pusher then does not push.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = config_values.from_json(InfraValidatorConfig, exec_properties["config"])
        saved_model = _saved_model(input_dict)
        samples = _requests(input_dict, config.requests)
        try:
            answered = probe(saved_model, samples, config.seconds, config.memory_mb)
        except Refused as refusal:
            blessed, reason = 0, f"Refused: {refusal}."
        else:
            blessed, reason = 1, f"It loads and answered {answered} requests."
        logging.info("InfraValidator: %s", reason)
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        write_text(Path(blessing.uri) / (BLESSED if blessed else NOT_BLESSED), "")
        blessing.set_int_custom_property("blessed", blessed)
        blessing.set_string_custom_property("reason", reason)


class DockerExecutor(stock.Executor):
    """The stock executor, with this package's requests.

    The stock executor sends rows unchanged, with integers that the signatures refuse; and it builds
    requests only for inputs whose rank the SavedModel fixes, while our signatures check the rank in
    the graph.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the stock executor."""
        properties = dict(exec_properties)
        spec = infra_validator_pb2.RequestSpec()
        # Without the key the stock executor builds no requests.
        proto_utils.json_to_proto(properties.pop(standard.REQUEST_SPEC_KEY), spec)
        self._samples = [_predict(row) for row in _requests(input_dict, spec.num_examples)]
        super().Do(input_dict, output_dict, properties)

    def _ValidateWithRetry(self, *, requests: list[Any], **further: Any) -> bool:
        return super()._ValidateWithRetry(requests=[*requests, *self._samples], **further)


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
    """Returns the first rows of the split, serialised, with the types that the candidate reads."""
    split = Path(artifact_utils.get_split_uri(inputs["examples"], SPLIT))
    files = sorted(str(path) for path in split.iterdir() if path.is_file())
    compression = "GZIP" if all(name.endswith(".gz") for name in files) else ""
    rows = tf.data.TFRecordDataset(files, compression_type=compression).as_numpy_iterator()
    reads = read_types(_saved_model(inputs))
    return [as_request(row, reads) for row in itertools.islice(rows, count)]


class Driver(PropertyDriver):
    """Adds the number of refused candidates, so that a refused candidate is tested again.

    A busy machine may cause a refusal; a cached refusal would last for ever.
    """

    def further_properties(self, exec_properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the number of refused candidates."""
        with self._mlmd_connection as metadata:
            blessings = metadata.store.get_artifacts_by_type(
                standard_artifacts.InfraBlessing.TYPE_NAME
            )
        refused = [each for each in blessings if each.custom_properties["blessed"].int_value == 0]
        return {"refused": len(refused)}


class InfraValidatorSpec(types.ComponentSpec):
    """Inputs, outputs and parameters; `config` is an `InfraValidatorConfig` as JSON."""

    PARAMETERS = {"config": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class InfraValidator(base_component.BaseComponent):
    """Serves the candidate locally and sends requests.

    Args:
        model: the candidate.
        examples: Examples of Histories; rows of the split `test` are the sample requests.
        config: limits.

    Outputs: `blessing`, the standard InfraBlessing.
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
                config=config_values.as_json(config),
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
