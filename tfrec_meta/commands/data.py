"""`tfrec-meta data`: checks a log of events and writes a starting config. Loads no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrec_meta.commands.base import LazyGroup, Result, argument, command, note, option
from tfrec_meta.commands.config_option import config_option
from tfrec_meta.commands.data_options import DataOptions, data_options
from tfrec_meta.commands.summaries import DATA, SUMMARIES
from tfrec_meta.commands.text_tables import text_table
from tfrec_meta.commands.values import FILE
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import printable

if TYPE_CHECKING:
    from tfrec_meta.data.survey.mapping import Proposal
    from tfrec_meta.data.survey.survey import Survey

_EXAMPLES = """\
examples:
  tfrec-meta data check log.csv --to shop.yaml"""


@command(
    "data check",
    "log.csv",
    "log.csv --to shop.yaml",
    "logs/*.csv.gz --rows 100000 --columns user_id=customer --time-format %d/%m/%Y",
    "--config shop.yaml",
    details="Options about the data are used for reading, and are written to the config. No value "
    "of a column that looks personal is printed.",
    rereads_data=True,
)
@argument(
    "files",
    nargs=-1,
    parameters=("source",),
    metavar="[FILE...]",
    help="Logs (default: those of --config).",
)
@config_option("YAML file with settings, which are used for reading and for the config.")
@option(
    "--rows",
    type=int,
    metavar="N",
    help="Stop after N rows, at the end of a block of the file (default: read all rows).",
)
@option("--to", type=FILE, metavar="FILE", help="Write a starting config to this YAML file.")
@option("--overwrite", is_flag=True, help="Replace that file.")
@data_options(sources=False)
def check(
    files: Sequence[str],
    config: str | None,
    rows: int | None,
    to: str | None,
    overwrite: bool,
    data: DataOptions,
) -> Result:
    """Describes files of events, and proposes how to read them."""
    from tfrec_meta.io.files import write_text
    from tfrec_meta.workflows.configs.config_files import (
        errors_of_config,
        read_config,
        settings_over,
    )
    from tfrec_meta.workflows.configs.data_check import check_data, starting_config

    if to is not None and Path(to).exists() and not overwrite:
        raise FileExistsError(f"{to} exists; --overwrite replaces it.")
    options = dataclasses.replace(data, data=files).settings()
    known = {} if config is None else read_config(config)
    with errors_of_config(config, known, options) if config else contextlib.nullcontext():
        given = settings_over(known, options)
        if "source" not in given.get("data", {}):
            raise ParameterError("`source` is missing; name the files.", "source")
        found = check_data(given, rows)
    text = starting_config(found, given) if found.is_usable else None
    lines = list(_lines(found))
    is_written = text is not None and to is not None
    if text is not None and to is not None:
        write_text(to, text)
        words = shlex.join(["--run", f"runs/{Path(to).stem}", "--config", to])
        train = f"tfrec-meta train {words}"
        look = f"check the mapping in {to} first; then {train}"
        lines += [f"config: {to}", f"next: {train if found.is_sure else look}"]
    elif text is not None:
        lines.append("next: the same command with --to FILE writes a starting config")
    if not found.is_usable:
        note(f"error: {_problem(found)}")
    content = {**found.as_dict(), "config": to if is_written else None}
    return Result(content, "\n".join(lines), status=0 if found.is_usable else 1)


@command(
    "data schema",
    "",
    details="Write it to a file with > tfrec.schema.json. With the first line "
    "`# yaml-language-server: $schema=tfrec.schema.json` in a config, editors complete and check "
    "its settings.",
)
def schema() -> Result:
    """Prints the schema."""
    from tfrec_meta.workflows.configs.settings_schema import stored_schema

    found = stored_schema()
    return Result(found, json.dumps(found, indent=1))


data = LazyGroup(
    "data",
    help=SUMMARIES["data"],
    short_help=SUMMARIES["data"],
    sections={"Commands": DATA},
    find={"check": check, "schema": schema}.__getitem__,
    examples=_EXAMPLES,
)


def _problem(found: Survey) -> str:
    """Why no event was read, or nearly none."""
    missing = [key for key in ("user_id", "item_id") if found.mapping[key].column is None]
    if missing:
        named = ",".join(f"{key}=NAME" for key in missing)
        return f"no column looks like {' or '.join(missing)}; name it with --columns {named}."
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.dropped.items())
    dropped = sum(found.dropped.values())
    which = "all" if dropped == found.rows else f"{dropped:,} of"
    advice = "check the columns and the format of the file"
    if "unreadable value" in found.dropped and found.form.decimal == ".":
        advice += "; --decimal , reads numbers such as 12,34"
    return f"{which} {found.rows:,} rows are dropped: {reasons}. To fix it, {advice}."


def _lines(found: Survey) -> Iterator[str]:
    """The report of a survey for people."""
    yield from _column_lines(found)
    yield from ("", "proposed mapping:")
    yield from (f"  {line}" for line in _mapping_lines(found))
    if found.personal:
        yield from ("", "columns that look personal:")
        yield from (f"  {_shown(one.column)}: {one.reason}" for one in found.personal)
    if not found.is_readable:
        return
    yield ""
    part = "the first " if found.is_sample else ""
    dropped = sum(found.dropped.values())
    yield f"rows: {part}{found.rows:,}, of which {dropped:,} are dropped"
    for reason, count in found.dropped.items():
        yield f"  {count:,} {reason}"
        yield from (f"    {_shown(text)}" for text in found.examples.get(reason, ()))
    yield f"events: {found.events:,} of {found.users:,} users with {found.items:,} items"
    if found.is_one_to_one:
        yield "warning: nearly each user has one item of their own; are both columns right?"
    yield from _item_lines(found)
    yield from _advice_lines(found)


def _item_lines(found: Survey) -> Iterator[str]:
    table = found.items_in
    if table is None:
        return
    yield (
        f"{_shown(table.name)}: {len(table.ids):,} rows, with {found.described_items:,} of the "
        f"{found.items:,} items"
    )
    if not table.has_titles:
        name = _shown(table.likely_title or "NAME")
        yield (
            "  no column `title`, so answers and reports show ids; "
            f"--columns items.title={shlex.quote(name)} names the titles"
        )


def _column_lines(found: Survey) -> Iterator[str]:
    rows = [
        (
            _shown(column.name),
            column.kind,
            f"{column.missing / column.rows:.1%}" if column.rows else "-",
            f"{column.distinct:,}" if column.distinct else "-",
        )
        for column in found.columns
    ]
    looked_at = max((column.rows for column in found.columns), default=0)
    yield f"{_shown(found.files[0])}: columns in the first {looked_at:,} rows"
    head = ("column", "type", "missing", "distinct")
    yield from (f"  {line}" for line in text_table(head, rows))
    if len(found.files) > 1:
        yield f"and {len(found.files) - 1:,} more files"
    form = {"delimiter": found.form.delimiter or "", "decimal": found.form.decimal.strip(".")}
    shown = [f"--{name} {shlex.quote(mark)}" for name, mark in form.items() if mark]
    if shown:
        yield f"format: {' '.join(shown)}"


def _mapping_lines(found: Survey) -> list[str]:
    rows = [
        (key, _shown(proposal.column or "-"), _reason(found, proposal))
        for key, proposal in found.mapping.items()
    ]
    return text_table(("ours", "column", ""), rows)


def _reason(found: Survey, proposal: Proposal) -> str:
    if proposal.column is None:
        return "no column looks like it"
    parts = [f"by its {proposal.by}" if proposal.by != "given" else "given"]
    if proposal.key == "time":
        parts.append(found.times)
        if len(found.time_formats) > 1:
            parts.append("the day or the month comes first")
    if proposal.key == "event_type" and found.event_types:
        parts.append(", ".join(f"{_shown(name)} {n:,}" for name, n in found.event_types.items()))
    if not proposal.sure:
        others = ", ".join(map(_shown, proposal.alternatives[:5]))
        parts.append(f"unsure{f'; or {others}' if others else ''}")
    return "; ".join(parts)


def _advice_lines(found: Survey) -> Iterator[str]:
    if found.first_time is not None:
        from tfrec_meta.data.profile import date_of

        yield f"time: {date_of(found.first_time)} to {date_of(found.last_time)} UTC"
    if found.repeats is not None:
        line = (
            f"repeats: {found.repeats.share:.1%} of {found.repeats.pairs:,} pairs of user and item"
        )
        yield line + ("; suggests --recommend-history" if found.recommends_history else "")
    new = found.newcomers
    if new is not None:
        yield (
            f"new in the last 20 % of the events: {new.user_share:.1%} of {new.users:,} users, "
            f"{new.item_share:.1%} of {new.items:,} items"
        )
    if found.events:
        yield f"split: suggests --split {found.split}"


def _shown(text: str) -> str:
    return printable(text, lines=False)
