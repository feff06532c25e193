"""Brings a table into the pipeline: one ExampleGen a table, Arrow all the way.

The input is resolved as in TFX's own file-based ExampleGens: `{SPAN}` and `{VERSION}` in the
pattern, of which the newest are taken, and a fingerprint of the files that the cache goes by. What
differs is the executor: it reads whole columns, writes the shards itself, and no row is ever an
element of a Beam collection. There is no split by hash: everything is in the split "all".
"""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import apache_beam as beam
from absl import logging
from tfx import types
from tfx.components.example_gen import driver, utils
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.orchestration import data_types
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import proto_utils

from tfrec_meta.pipeline.config import DataConfig, TableConfig, as_json, from_json
from tfrec_meta.pipeline.tables import (
    Source,
    Survey,
    Unit,
    merge,
    read_report,
    report,
    survey,
    units_of,
    write,
)

# Arguments that keep Beam in this process: DirectRunner tries to fetch a runner called Prism from
# the net first, and without an image named TFX packs itself up for remote workers, node by node.
IN_PROCESS = ("--runner=FnApiRunner", "--sdk_container_image=in_process")
SPLIT = "all"
# Of the examples, JSON: column -> the first cell for which it is text and no numbers.
NO_NUMBERS = "no_numbers"


class ExampleGenSpec(types.ComponentSpec):
    """What `ExampleGen` takes and gives; `input_base` and `input_config` are what the driver reads.

    `config` is a `TableConfig` as JSON.
    """

    PARAMETERS = {
        "table": component_spec.ExecutionParameter(type=str),
        "config": component_spec.ExecutionParameter(type=str),
        "time_unit": component_spec.ExecutionParameter(type=str),
        "input_base": component_spec.ExecutionParameter(type=str),
        "input_config": component_spec.ExecutionParameter(type=example_gen_pb2.Input),
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}


class Driver(driver.FileBasedDriver):
    """TFX's resolution of span, version and fingerprint, with words for what is not there."""

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """Fills in span, version and fingerprint.

        Raises:
            ValueError: no file fits the pattern, or what stands for span or version is no number.
        """
        config = from_json(TableConfig, exec_properties["config"])
        table = exec_properties["table"]
        try:
            resolved = super().resolve_exec_properties(
                exec_properties, pipeline_info, component_info
            )
        except ValueError as error:
            raise ValueError(
                f"data.{table}.path={config.path!r} can't be resolved: {error}. {_way_out(table)}"
            ) from error
        pattern, span = _resolved(resolved)
        if not any(map(_is_data, glob.glob(pattern))):
            raise ValueError(_nothing(table, "no file", pattern, span))
        later = _later_span(config.path, span)
        if later is not None:
            # TFX would fall back on an earlier span, and nobody would notice.
            raise ValueError(
                f"{table}: {later} is a later span than {span}, but holds no file that fits "
                f"data.{table}.path={config.path!r}. Put the data there, or remove the folder."
            )
        return resolved


class Executor(base_beam_executor.BaseBeamExecutor):
    """Surveys all units of work, agrees on the columns' types, and writes one shard a unit."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples.

        Raises:
            ValueError: the span has no row, an id column is missing, a file is damaged or of an
                unknown format; the message names file, pattern and span.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        table = exec_properties["table"]
        config = from_json(TableConfig, exec_properties["config"])
        source = Source(table, config, exec_properties["time_unit"])
        pattern, span = _resolved(exec_properties)
        files = [Path(path) for path in sorted(glob.glob(pattern)) if _is_data(path)]
        if not files:
            raise ValueError(_nothing(table, "no file", pattern, span))
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names([SPLIT])
        folder = artifact_utils.get_split_uri([examples], SPLIT)
        os.makedirs(folder, exist_ok=True)
        try:
            found = self._convert(units_of(files), source, folder)
        except ValueError as error:
            found = Survey(errors=(str(error),))
        if found.errors:
            more = len(found.errors) - 5
            raise ValueError(
                f"{_where(table, pattern, span)} can't be read:\n"
                + "\n".join(found.errors[:5])
                + (f"\nand {more} more" if more > 0 else "")
            )
        if not found.rows:
            raise ValueError(_nothing(table, "no row", pattern, span))
        for name, cell in found.no_numbers.items():
            logging.warning("%s.%s is taken as text, since there is %s.", table, name, cell)
        for name in config.columns:
            if name not in found.kinds:
                logging.warning(
                    "%s has no column `%s` (for `%s`).", pattern, config.columns[name], name
                )
        examples.set_string_custom_property(NO_NUMBERS, json.dumps(dict(found.no_numbers)))
        examples.set_int_custom_property("rows", found.rows)
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")

    def _convert(self, units: list[Unit], source: Source, folder: str) -> Survey:
        # Beside the shards, where every worker can write; TFX reads data_* only.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".survey-") as work:
            told = os.path.join(work, "survey.json")
            with self._make_beam_pipeline() as pipeline:
                elements = pipeline | "Units" >> beam.Create(units) | beam.Reshuffle()
                found = (
                    elements
                    | "Survey" >> beam.Map(survey, source)
                    | "Agree" >> beam.CombineGlobally(merge)
                )
                written = (
                    elements
                    | "Write" >> beam.Map(write, beam.pvalue.AsSingleton(found), source, folder)
                    | "Count" >> beam.CombineGlobally(merge)
                )
                _ = found | "Report" >> beam.Map(report, beam.pvalue.AsSingleton(written), told)
            return read_report(told)


class ExampleGen(base_beam_component.BaseBeamComponent):
    """The ExampleGen of one table.

    Args:
        table: "interactions", "users" or "items".
        config: of the data; a relative path is relative to the working directory of now.

    Raises:
        ValueError: there is no such table.

    Outputs: `examples`, standard Examples with the one split "all": ids are bytes, whole numbers
    int64, other numbers float, text bytes, lists repeated values; a missing cell has no value.
    `time` of the interactions is in Unix seconds, `value` float, unless cells of theirs are none:
    then the column is bytes, for the schema's validation to name it.
    """

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, table: str, config: DataConfig) -> None:
        if table not in config.tables:
            raise ValueError(f"`table`={table!r}; use one of {', '.join(config.tables)}.")
        path = Path(os.path.abspath(config.tables[table].path))
        # From the first part that is a pattern on; the driver joins the two again.
        parts = path.parts
        plain = next((i for i, part in enumerate(parts) if re.search(r"[*?\[{]", part)), None)
        plain = len(parts) - 1 if plain is None else plain
        pattern = os.path.join(*parts[plain:])
        super().__init__(
            spec=ExampleGenSpec(
                table=table,
                config=as_json(config.tables[table]),
                time_unit=config.time_unit,
                input_base=str(Path(*parts[:plain])),
                input_config=example_gen_pb2.Input(
                    splits=[example_gen_pb2.Input.Split(name=SPLIT, pattern=pattern)]
                ),
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )


def _is_data(path: str) -> bool:
    """False for folders and for what Spark and others leave beside data, such as _SUCCESS."""
    return os.path.isfile(path) and os.path.basename(path)[0] not in "._"


def _resolved(exec_properties: dict[str, Any]) -> tuple[str, int]:
    """The glob pattern with span and version filled in, and the span."""
    inputs = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties["input_config"], inputs)
    pattern = os.path.join(exec_properties["input_base"], inputs.splits[0].pattern)
    return pattern, int(exec_properties.get(utils.SPAN_PROPERTY_NAME) or 0)


def _later_span(path: str, span: int) -> str | None:
    """A folder of a later span, where spans are folders."""
    parts = Path(os.path.abspath(path)).parts
    for depth, part in enumerate(parts[:-1]):
        if not re.search(utils.SPAN_FULL_REGEX, part):
            continue
        before, _, after = re.sub(utils.SPAN_FULL_REGEX, "\0", part).partition("\0")
        name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
        for folder in sorted(glob.glob(os.path.join(*parts[:depth], f"{before}*{after}"))):
            number = name.fullmatch(os.path.basename(folder))
            if number and int(number.group(1)) > span and os.path.isdir(folder):
                return folder
    return None


def _where(table: str, pattern: str, span: int) -> str:
    return f"{table}, span {span} ({pattern})"


def _nothing(table: str, what: str, pattern: str, span: int) -> str:
    return f"{_where(table, pattern, span)} holds {what}. {_way_out(table)}"


def _way_out(table: str) -> str:
    return f"Put the data there, or change data.{table}.path."
