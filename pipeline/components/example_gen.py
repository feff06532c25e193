"""ExampleGen: reads a table into the pipeline, by whole Arrow columns.

The input is resolved as in TFX's own file-based ExampleGens: `{SPAN}` and `{VERSION}` in the
pattern stand for numbers, of which the highest are used, and the cache compares a fingerprint of
the files. The executor differs: it reads whole columns and writes the shards itself, so that no row
is an element of a Beam collection. Examples are not split by a hash: all are in the split "all".
"""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from functools import partial
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
from tfx.utils import io_utils, proto_utils

from tfrec_meta.data.events import RowCheck
from tfrec_meta.io.digests import digest_of
from tfrec_meta.io.pseudonyms import key_of, pseudonym
from tfrec_meta.pipeline.config_values import as_json, from_json
from tfrec_meta.pipeline.configs.data_config import DataConfig, TableConfig
from tfrec_meta.pipeline.rows.corrections import all_removed, keys_of, removed_rows
from tfrec_meta.pipeline.rows.sources import (
    Source,
    Unit,
    has_rows,
    units_of,
    with_recognized_unit,
)
from tfrec_meta.pipeline.rows.spans import (
    Span,
    copies,
    files_of,
    folders_of,
    has_span,
    is_data,
    spans_of,
)
from tfrec_meta.pipeline.tables import (
    Survey,
    merge,
    read_report,
    report,
    survey,
    with_numbers,
    write,
)

SPLIT = "all"
# Custom property of the examples, JSON: column -> the first cell that is not a number.
NOT_NUMERIC = "not_numeric"
DROPPED = "dropped"  # custom property of the examples, JSON: reason -> number of invalid rows


# Fields of DataConfig and of Source.
_READING = ("time_unit", "time_format", "bad_rows", "pseudonyms")
# Execution property: another key of the pseudonyms takes no examples from the cache.
_KEY_DIGEST = "key_digest"
_SPANS = "spans"  # execution property of increments: the spans of the window, JSON


class ExampleGenSpec(types.ComponentSpec):
    """Inputs, outputs and parameters.

    `config` is a `TableConfig` as JSON; `reading` is JSON with time_unit, time_format, bad_rows,
    pseudonyms and max_bad_share of the `DataConfig`, needs, its needed columns of this table, and
    keeps_copies, whether its rules of cleaning keep copies of events; the driver reads `input_base`
    and `input_config`.
    """

    PARAMETERS = {
        "table": component_spec.ExecutionParameter(type=str),
        "config": component_spec.ExecutionParameter(type=str),
        "reading": component_spec.ExecutionParameter(type=str),
        "input_base": component_spec.ExecutionParameter(type=str),
        "input_config": component_spec.ExecutionParameter(type=example_gen_pb2.Input),
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = {"examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)}


class Driver(driver.FileBasedDriver):
    """TFX's resolution of span, version and fingerprint, with clear errors."""

    def resolve_exec_properties(
        self,
        exec_properties: dict[str, Any],
        pipeline_info: data_types.PipelineInfo,
        component_info: data_types.ComponentInfo,
    ) -> dict[str, Any]:
        """Adds span, version and fingerprint, and a digest of the key of the pseudonyms.

        For increments it adds the spans of the window; the fingerprint is that of all their files.

        Raises:
            ValueError: if no file matches the pattern, a span or version is not a number, two
                spans have one number, a date is not in the calendar, a later span or one of the
                window has no file, or there is no key for the pseudonyms.
        """
        config = from_json(TableConfig, exec_properties["config"])
        table = exec_properties["table"]
        unresolved, _ = _resolved(exec_properties)
        spans = spans_of(unresolved) if has_span(unresolved) else []
        try:
            resolved = super().resolve_exec_properties(
                exec_properties, pipeline_info, component_info
            )
        except ValueError as error:
            raise ValueError(
                f"data.{table}.path={config.path!r} can't be resolved: {error}. {_advice(table)}"
            ) from error
        pattern, span = _resolved(resolved)
        if not any(map(is_data, glob.glob(pattern))):
            raise ValueError(_empty(table, "no file", pattern, span))
        later = [folder for number, folder in folders_of(unresolved) if number > span]
        if later:
            # TFX would silently fall back on an earlier span.
            raise ValueError(
                f"{table}: {later[0]} is a later span than {span}, but has no file that matches "
                f"data.{table}.path={config.path!r}. Add the data, or remove the folder."
            )
        if config.span == "increment":
            spans = spans[-(config.window or 0) :]
            _check_window(table, config, unresolved, spans)
            resolved[_SPANS] = json.dumps(spans)
            # A late file, or a correction of an earlier span, takes no examples from the cache.
            resolved[utils.FINGERPRINT_PROPERTY_NAME] = _fingerprint(spans)
        key = json.loads(exec_properties["reading"])["pseudonyms"]
        if key is not None:
            resolved[_KEY_DIGEST] = pseudonym("", key_of(key))[:16]
        return resolved


class Executor(base_beam_executor.BaseBeamExecutor):
    """Surveys all units of work, chooses the columns' types, and writes one shard per unit."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples.

        Raises:
            ValueError: if the span has no rows, a column of ids or a needed one is missing, a row
                is invalid, a file is damaged or has an unknown format, or an increment was
                delivered twice; the message names file, pattern and span.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        table = exec_properties["table"]
        config = from_json(TableConfig, exec_properties["config"])
        reading = json.loads(exec_properties["reading"])
        max_bad_share, keeps_copies = reading.pop("max_bad_share"), reading.pop("keeps_copies")
        source = Source(table, config, **reading)
        pattern, span = _resolved(exec_properties)
        spans = [Span(*one) for one in json.loads(exec_properties.get(_SPANS) or "[]")]
        spans = spans or [Span(span, 0, pattern)]
        files = files_of(spans)
        if not files:
            raise ValueError(_empty(table, "no file", pattern, span))
        where = _where(table, pattern, span)
        if len(spans) > 1:
            where = f"{table}, {len(spans)} spans up to {span} ({pattern})"
            logging.info("%s: spans %s.", table, ", ".join(str(one.number) for one in spans))
            _check_copies(where, spans, source, keeps_copies)
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        examples.split_names = artifact_utils.encode_split_names([SPLIT])
        folder = artifact_utils.get_split_uri([examples], SPLIT)
        os.makedirs(folder, exist_ok=True)
        try:
            units = units_of(files)
            found = self._convert(units, with_recognized_unit(units, source), folder)
        except ValueError as error:
            found = Survey(errors=(str(error),))
        if found.errors:
            more = len(found.errors) - 5
            raise ValueError(
                f"{where} can't be read:\n"
                + "\n".join(found.errors[:5])
                + (f"\nand {more} more" if more > 0 else "")
            )
        _check_dropped(found, where, max_bad_share)
        for reason, count in found.corrected.items():
            logging.info("%s: %d rows were %s.", where, count, reason)
        if not found.rows:
            raise ValueError(_empty(table, "no rows", pattern, span))
        for name, cell in found.not_numeric.items():
            logging.warning("%s.%s is read as text because of %s.", table, name, cell)
        for name in config.columns:
            if name not in found.kinds:
                logging.warning(
                    "%s has no column `%s` (for `%s`).", pattern, config.columns[name], name
                )
        dropped = {**found.dropped, **found.corrected}
        examples.set_string_custom_property(DROPPED, json.dumps(dropped))
        examples.set_string_custom_property(NOT_NUMERIC, json.dumps(dict(found.not_numeric)))
        examples.set_int_custom_property("rows", found.rows)
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")

    def _convert(self, units: list[Unit], source: Source, folder: str) -> Survey:
        # In the folder of the shards, where every worker can write; TFX reads data_* only.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".survey-") as work:
            result = os.path.join(work, "survey.json")
            with self._make_beam_pipeline() as pipeline:
                elements = pipeline | "Units" >> beam.Create(units) | beam.Reshuffle()
                removed: Any = {}
                if source.key is not None:
                    rows = elements | "Rows" >> beam.FlatMap(keys_of, source)
                    of_ids = rows | beam.GroupByKey() | beam.Values() | beam.Map(removed_rows)
                    removed = beam.pvalue.AsSingleton(of_ids | beam.CombineGlobally(all_removed))
                found = (
                    elements
                    | "Survey" >> beam.Map(survey, source, removed)
                    | "Agree" >> beam.CombineGlobally(merge)
                    | "Numbers" >> beam.Map(with_numbers, source)
                )
                written = (
                    elements
                    | "Write"
                    >> beam.Map(write, beam.pvalue.AsSingleton(found), source, folder, removed)
                    | "Count" >> beam.CombineGlobally(merge)
                )
                _ = found | "Report" >> beam.Map(report, beam.pvalue.AsSingleton(written), result)
            return read_report(result)


class ExampleGen(base_beam_component.BaseBeamComponent):
    """Reads one table.

    Args:
        table: "interactions", "users" or "items".
        config: of the data; a relative path is relative to the current working directory.

    Raises:
        ValueError: if the config has no such table.

    Outputs: `examples`, standard Examples with the split "all". Ids are bytes, integers int64,
    other numbers float, text bytes, lists repeated values; a missing cell has no value. `time` of
    the interactions is in Unix seconds and `value` is float. Invalid rows are dropped and counted
    in the property `dropped`, or stop the node, as `data.bad_rows` says.
    """

    SPEC_CLASS = ExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    DRIVER_CLASS = Driver

    def __init__(self, table: str, config: DataConfig) -> None:
        if table not in config.tables:
            raise ValueError(f"`table`={table!r}; use one of {', '.join(config.tables)}.")
        settings = config.tables[table]
        path = Path(os.path.abspath(settings.path))
        # The pattern begins at the first part with a wildcard; the driver joins both again.
        parts = path.parts
        plain = next((i for i, part in enumerate(parts) if re.search(r"[*?\[{]", part)), None)
        plain = len(parts) - 1 if plain is None else plain
        pattern = os.path.join(*parts[plain:])
        super().__init__(
            spec=ExampleGenSpec(
                table=table,
                config=as_json(settings),
                reading=json.dumps(
                    {name: getattr(config, name) for name in (*_READING, "max_bad_share")}
                    | {"keeps_copies": config.clean.duplicates == "keep"}
                    | {"needs": config.needs_of(table)}
                ),
                input_base=str(Path(*parts[:plain])),
                input_config=example_gen_pb2.Input(
                    splits=[example_gen_pb2.Input.Split(name=SPLIT, pattern=pattern)]
                ),
                examples=types.Channel(type=standard_artifacts.Examples),
            )
        )


def _check_dropped(found: Survey, where: str, max_bad_share: float) -> None:
    """Logs the invalid rows of all units, or raises if their share is too high."""
    check = RowCheck("drop", max_bad_share)
    for reason, count in found.dropped.items():
        check.bad(reason, count, partial(found.examples.__getitem__, reason))
    check.finish(where, found.rows)


def _resolved(exec_properties: dict[str, Any]) -> tuple[str, int]:
    """Returns the glob pattern with span and version filled in, and the span."""
    inputs = example_gen_pb2.Input()
    proto_utils.json_to_proto(exec_properties["input_config"], inputs)
    pattern = os.path.join(exec_properties["input_base"], inputs.splits[0].pattern)
    return pattern, int(exec_properties.get(utils.SPAN_PROPERTY_NAME) or 0)


def _check_window(table: str, config: TableConfig, pattern: str, spans: list[Span]) -> None:
    """Raises a ValueError if a folder of a span of the window has no file."""
    numbers = {span.number for span in spans}
    for number, folder in folders_of(pattern):
        if number > min(numbers) and number not in numbers:
            raise ValueError(
                f"{table}: {folder} is a span of the window of data.{table}, but has no file that "
                f"matches data.{table}.path={config.path!r}. Add the data, or remove the folder."
            )


def _fingerprint(spans: list[Span]) -> str:
    """Returns a text that changes with the files of the spans."""
    prints = [
        io_utils.generate_fingerprint(f"{one.number}/{one.version}", one.pattern) for one in spans
    ]
    return f"spans:{len(spans)},sha256:{digest_of(*map(str.encode, prints))}"


def _check_copies(where: str, spans: list[Span], source: Source, keeps_copies: bool) -> None:
    """Logs files of events that two spans have alike, or raises a ValueError if that does harm.

    Cleaning drops and counts copies of events. With ids of events, an old increment that comes once
    more would undo later corrections.
    """
    if source.table != "interactions":
        return  # users and items may return to an earlier state
    for one, other in copies(spans):
        if not has_rows(other, source):
            continue
        words = f"{where}: {other} has the same content as {one}"
        if keeps_copies or source.key is not None:
            what = "its events would count twice" if keeps_copies else "it would undo corrections"
            raise ValueError(
                f"{words}: the increment was delivered twice, and {what}. Remove one of the files."
            )
        logging.warning("%s: the increment was delivered twice. Its copies are dropped.", words)


def _where(table: str, pattern: str, span: int) -> str:
    return f"{table}, span {span} ({pattern})"


def _empty(table: str, what: str, pattern: str, span: int) -> str:
    return f"{_where(table, pattern, span)} has {what}. {_advice(table)}"


def _advice(table: str) -> str:
    return f"Add the data, or change data.{table}.path."
