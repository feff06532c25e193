"""Transform, with the FeatureSpec as its `preprocessing_fn`.

These are TFX's component and executor with two further inputs: the graph whose vocabularies grow,
and the catalogue to infer features from if none are declared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from tfx import types
from tfx.components.transform import executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import transform_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs
from tfx.utils import json_utils, proto_utils

from tfrec_meta import __version__
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features import transform as features
from tfrec_meta.pipeline.artifacts import CatalogueTables
from tfrec_meta.pipeline.config_values import VERSION

PREPROCESSING_FN = f"{__name__}.preprocessing_fn"

_ANALYSED = ("train", *features.TABLE_SPLITS)


def preprocessing_fn(
    inputs: Mapping[str, tf.SparseTensor], custom_config: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """Encodes the columns; TensorFlow Transform calls it.

    Args:
        inputs: the columns of the examples of Histories.
        custom_config: `declaration`, see `FeatureSpec.declaration`, and `earlier`, the folder of an
            earlier Transform graph, or None.
    """
    spec = FeatureSpec.declared(custom_config["declaration"])
    if custom_config.get("earlier"):
        spec = features.grown_from(spec, features.spec_of(custom_config["earlier"]))
    return features.preprocess(spec, inputs)


class TransformSpec(types.ComponentSpec):
    """TFX's specification with the two further inputs."""

    PARAMETERS = standard_component_specs.TransformSpec.PARAMETERS
    INPUTS = {
        **standard_component_specs.TransformSpec.INPUTS,
        "catalogue": component_spec.ChannelParameter(type=CatalogueTables, optional=True),
        "earlier": component_spec.ChannelParameter(
            type=standard_artifacts.TransformGraph, optional=True
        ),
    }
    OUTPUTS = standard_component_specs.TransformSpec.OUTPUTS


class Executor(executor.Executor):
    """TFX's executor with the declared features and the earlier vocabularies."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the Transform graph, and examples if the component has that output.

        Raises:
            ValueError: if a declared feature has no column, or a column of an unsuitable type.
        """
        settings = json_utils.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])
        earlier = _uri(input_dict, "earlier")
        config: dict[str, Any] = {
            "declaration": _declaration(settings, _uri(input_dict, "catalogue"), earlier)
        }
        if earlier is not None:
            config["earlier"] = earlier
        examples = input_dict[standard_component_specs.EXAMPLES_KEY]
        splits = artifact_utils.decode_split_names(examples[0].split_names)
        splits_config = transform_pb2.SplitsConfig(
            analyze=[split for split in splits if split in _ANALYSED], transform=splits
        )
        super().Do(
            {k: v for k, v in input_dict.items() if k not in ("catalogue", "earlier")},
            output_dict,
            {
                **exec_properties,
                standard_component_specs.CUSTOM_CONFIG_KEY: json_utils.dumps(config),
                standard_component_specs.SPLITS_CONFIG_KEY: proto_utils.proto_to_json(
                    splits_config
                ),
            },
        )


class Transform(base_beam_component.BaseBeamComponent):
    """Fits the FeatureSpec on train, users and items; `features.transform.spec_of` reads it.

    Args:
        examples: Examples of Histories.
        schema: Schema of Histories.
        catalogue: CatalogueTables of Histories, from which features are inferred if none are
            declared.
        earlier: a Transform graph whose tokens keep their rows and whose numbers keep their
            statistics.
        features: a `FeatureSpec.declaration()`; None infers one.
        history_length: length of the encoded history; it overrides that of `features`.
        materialize: whether to write all splits encoded.

    Outputs: `transform_graph`, and `transformed_examples` if materialised.
    """

    SPEC_CLASS = TransformSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        catalogue: types.BaseChannel | None = None,
        earlier: types.BaseChannel | None = None,
        *,
        features: Mapping[str, Any] | None = None,
        history_length: int = 200,
        materialize: bool = False,
    ) -> None:
        transformed = None
        if materialize:
            transformed = types.Channel(type=standard_artifacts.Examples)
            transformed.matching_channel_name = "examples"
        super().__init__(
            # Through self: TFX reloads this module to find the function, which renames the class.
            spec=self.SPEC_CLASS(
                examples=examples,
                schema=schema,
                catalogue=catalogue,
                earlier=earlier,
                transform_graph=types.Channel(type=standard_artifacts.TransformGraph),
                transformed_examples=transformed,
                preprocessing_fn=PREPROCESSING_FN,
                force_tf_compat_v1=0,
                # The inputs have statistics already, and a second pass would take longer than the
                # complete analysis.
                disable_statistics=1,
                custom_config=json_utils.dumps(
                    {
                        VERSION: __version__,
                        "features": None if features is None else json.dumps(features),
                        "history_length": history_length,
                    }
                ),
            )
        )


def _declaration(
    settings: Mapping[str, Any], catalogue: str | None, earlier: str | None
) -> dict[str, Any]:
    """Returns the declared features, or those that catalogue and earlier graph suggest."""
    length = settings["history_length"]
    if settings["features"] is not None:
        return {**json.loads(settings["features"]), "history_length": length}
    users = _table(catalogue, "users.parquet")
    items = _table(catalogue, "items.parquet")
    before = None if earlier is None else features.spec_of(earlier)
    return features.inferred(users, items, length, before).declaration()


def _table(folder: str | None, name: str) -> pa.Table | None:
    path = None if folder is None else Path(folder) / name
    return pq.read_table(path) if path is not None and path.is_file() else None


def _uri(inputs: Mapping[str, list[types.Artifact]], key: str) -> str | None:
    artifacts = inputs.get(key)
    return artifacts[0].uri if artifacts else None
