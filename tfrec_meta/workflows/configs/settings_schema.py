"""The JSON Schema of the config file, for editors.

Making it imports TensorFlow, with the models. `stored_schema` reads the made one and does not.
"""

from __future__ import annotations

import json
from pathlib import Path

from tfrec_meta.checks import of_type
from tfrec_meta.data import Feedback
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.models.registry import FAMILIES
from tfrec_meta.workflows.configs.config_files import EVALUATION, EXPORT
from tfrec_meta.workflows.configs.dataclass_schema import Schema, object_schema, or_null, schema_of
from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
from tfrec_meta.workflows.configs.split_settings import SplitSettings
from tfrec_meta.workflows.run_settings import DEFAULTS, DataSettings

SCHEMA_FILE = Path(__file__).with_name("config.schema.json")
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MODEL = "model of {}"


def stored_schema() -> Schema:
    """Returns the schema that the package has, with the group `pipeline`."""
    schema: Schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return schema


def config_schema(pipeline: Schema) -> Schema:
    """Returns the schema of the config file.

    Args:
        pipeline: the schema of the group `pipeline`.
    """
    source = schema_of(str), {"type": "array", "items": schema_of(str), "minItems": 1}
    data = object_schema(
        DataSettings, source={"anyOf": list(source)}, clean=object_schema(CleaningRules)
    )
    data["properties"] = {name: data["properties"][name] for name in DEFAULTS["data"]}
    groups = {
        "data": data,
        "feedback": object_schema(Feedback),
        "split": object_schema(SplitSettings),
        "recommend_history": of_type(bool).schema(),
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
        "strategy": _strategy(),
        EVALUATION: object_schema(EvaluationSettings),
        EXPORT: object_schema(ExportConfig),
        "pipeline": pipeline,
    }
    properties = {
        name: {"description": GROUPS[name], **or_null(schema)} for name, schema in groups.items()
    }
    for name in ("recommend_history", "seed"):
        properties[name]["default"] = DEFAULTS[name]
    return {
        "$schema": _DRAFT,
        "title": "Config file of tfrec-meta",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {
            _MODEL.format(family): object_schema(
                FAMILIES[family].config_type,
                members={"type": "array", "items": _member(), "minItems": 1},
                retriever=_member(),
                ranker=_member(),
            )
            for family in FAMILIES
        },
    }


GROUPS = {
    "data": "The files of events, users and items, and how they are read and cleaned.",
    "feedback": "How events count, by their types and values. Without it, all count alike.",
    "split": "The split of the events into train, validation and test.",
    "recommend_history": "Whether items of the history are ranked like all others, as for repeated "
    "purchases.",
    "seed": "The seed of the split, of the training and of synthetic data.",
    "strategy": "The model: its family, its config, its features and its training recipe.",
    EVALUATION: "How runs are evaluated.",
    EXPORT: "The options that are fixed when a model is exported.",
    "pipeline": "The settings of the pipeline itself; the others follow from the rest of the file.",
}
"""What the groups of the file are about."""


def _strategy() -> Schema:
    from tfrec_meta.strategy import BERT, TEACHERS, Strategy
    from tfrec_meta.training import TrainingConfig

    schema = object_schema(
        Strategy,
        family={"enum": list(FAMILIES)},
        model={"type": "object"},
        training=object_schema(TrainingConfig),
        features={"type": "object"},
        teacher={"enum": [*TEACHERS, BERT]},
    )
    schema["allOf"] = [
        {
            "if": {"required": ["family"], "properties": {"family": {"const": family}}},
            "then": _with_model(family),
        }
        for family in FAMILIES
    ]
    usual = {"required": ["family"], "properties": {"family": {"not": {"const": None}}}}
    schema["allOf"].append({"if": usual, "else": _with_model(Strategy().family)})
    return schema


def _member() -> Schema:
    """The schema of a member: the name of a family, or its fields."""
    from tfrec_meta.models.base.member import Member

    family = {"enum": list(FAMILIES)}
    return {"anyOf": [family, object_schema(Member, family=family)]}


def _with_model(family: str) -> Schema:
    config = {"$ref": f"#/$defs/{_MODEL.format(family).replace(' ', '%20')}"}
    return {"properties": {"model": {"anyOf": [config, {"type": "null"}]}}}
