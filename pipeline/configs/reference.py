"""Writes the JSON Schema of the config file, and the page with all settings.

    python -m tfrec_meta.pipeline.configs.reference docs/settings.md

Both come from the dataclasses of the settings, and from what their docstrings say of each field.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta.io.files import write_text
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.configs.beam_config import BeamConfig
from tfrec_meta.workflows.configs.dataclass_schema import Schema, object_schema, schema_of
from tfrec_meta.workflows.configs.settings_schema import GROUPS, SCHEMA_FILE, config_schema

_HEAD = """\
# All settings

Every setting of [the config file](config.md), by its groups. All are optional, and `null` stands
for the default. `tfrec-meta data schema` prints the same as a JSON Schema.

This page is made by `make settings` from the source; do not edit it.
"""
_RUN = "train, tune, distill, pipeline"
# What uses a setting, by the beginning of its name; the longest counts.
_USED_BY = {
    "data": f"data check, recommend, {_RUN}",
    "data.folder": "train, tune, distill, recommend",
    "data.sql": "train, tune, distill, recommend",
    "feedback": f"recommend, {_RUN}",
    "split": _RUN,
    "recommend_history": _RUN,
    "seed": _RUN,
    "strategy": _RUN,
    "evaluation": "evaluate",
    "evaluation.k": "evaluate, cold-start, pipeline",
    "evaluation.baselines": "evaluate, cold-start",
    "evaluation.resamples": "evaluate, cold-start, distill",
    "export": "export, pipeline",
    "pipeline": "pipeline",
}
_WORDS = {
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "object": "mapping",
}


def whole_schema() -> Schema:
    """Returns the schema of the config file, with the group of the pipeline."""
    beam = {"anyOf": [object_schema(BeamConfig), schema_of(tuple[str, ...])]}
    return config_schema(object_schema(PipelineConfig, beam=beam))


def schema_text() -> str:
    """Returns the text of the schema's file."""
    return json.dumps(whole_schema(), indent=1) + "\n"


def settings_page(schema: Schema) -> str:
    """Returns the page with a table of all settings.

    Args:
        schema: of the config file.
    """
    lines = [_HEAD]
    for name, group in schema["properties"].items():
        lines += [f"## {name}", "", GROUPS[name], ""]
        rows = [*_rows(name, group)] if "properties" in group else [_row(name, group)]
        lines += [*_table(rows), ""]
        if name == "strategy":
            for title, model in schema["$defs"].items():
                family = title.rpartition(" ")[2]
                rows = [*_rows("strategy.model", model)]
                if rows:
                    lines += [f"### The model `{family}`", "", *_table(rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _rows(prefix: str, group: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, schema in group["properties"].items():
        if "properties" not in schema:
            yield _row(f"{prefix}.{name}", schema)
        for inner in (schema, *schema.get("anyOf", ())):
            if "properties" in inner:
                yield from _rows(f"{prefix}.{name}", inner)


def _row(path: str, schema: Schema) -> tuple[str, ...]:
    users = max((start for start in _USED_BY if f"{path}.".startswith(f"{start}.")), key=len)
    default = schema.get("default")
    shown = "" if default in (None, {}, []) else f"`{json.dumps(default)}`"
    meaning = schema.get("description", "")
    return f"`{path}`", _type(schema), shown, meaning, _USED_BY[users]


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield "| setting | type | default | meaning | used by |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _type(schema: Schema) -> str:
    """Returns the accepted values in words."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"] if value is not None)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(filter(None, map(_type, schema["anyOf"]))))
    kind = schema.get("type", [])
    kinds = [one for one in ([kind] if isinstance(kind, str) else kind) if one != "null"]
    if kinds == ["array"]:
        return f"list of {_type(schema['items']) or 'values'}"
    words = " or ".join(_WORDS[one] for one in kinds)
    bounds = [
        f"{sign} {schema[key]:,}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return " ".join([words, ", ".join(bounds)]).strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the schema into the package, and the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", help="the file of the page")
    page = Path(parser.parse_args(arguments).page)
    write_text(SCHEMA_FILE, schema_text())
    write_text(page, settings_page(whole_schema()))
    print(SCHEMA_FILE, page, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
