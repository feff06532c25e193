"""Surveys a log, and writes a starting config for it.

Imports no TensorFlow.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.places.queries import is_database
from tfrec_meta.data.sources.formats import FileFormat
from tfrec_meta.data.survey.mapping import Proposal
from tfrec_meta.data.survey.survey import Survey, survey
from tfrec_meta.io.logs import printable
from tfrec_meta.io.stores import is_url
from tfrec_meta.io.yaml_text import yaml_of
from tfrec_meta.workflows.configs.config_files import EVALUATION, EXPORT, PIPELINE, run_part
from tfrec_meta.workflows.run_settings import (
    DEFAULTS,
    FORMAT_SETTINGS,
    Settings,
    complete_settings,
    is_named_source,
    refuse_unused,
)

_MANY = 0.2  # share of new users or items from which the config has a remark


def check_data(given: Mapping[str, Any], rows: int | None = None) -> Survey:
    """Surveys the files that the "data" part of settings names.

    Args:
        given: settings as `read_config` returns them, with `source`; the others are optional.
        rows: as for `survey`.

    Raises:
        ValueError: as `survey` does, or if a source is a name and no file.
    """
    settings = complete_settings(run_part(given))
    data = settings["data"]
    refuse_unused(data)
    names = [source for source in data["source"] if is_named_source(source)]
    if names:
        raise ValueError(f"{names[0]} has known columns; `data check` is for files.")
    if is_database(data["source"][0]):
        raise ValueError(
            f"`data check` is for files, and not for {data['source'][0]}; write some rows to a CSV "
            "file and check that."
        )
    form = FileFormat(**{name: data[name] for name in FORMAT_SETTINGS})
    rules = CleaningRules.from_dict(data["clean"])
    sources = [_relative(source) for source in data["source"]]
    items = data["items"] and _relative(data["items"])
    return survey(sources, data["columns"], form, rules, rows, items)


def starting_config(found: Survey, given: Mapping[str, Any]) -> str:
    """Returns the YAML of a config with which the log can be read, with comments.

    Args:
        found: the survey of the log.
        given: the settings for which it was made; they are in the config as they are.

    Raises:
        ValueError: if the survey found no column of users or of items.
    """
    if not found.is_readable:
        raise ValueError(
            "A config needs a column of users and one of items; name them in `columns`, as in "
            "user_id: customer, item_id: product."
        )
    return "\n".join([*_data_lines(found, given["data"]), *_other_lines(found, given)]) + "\n"


def _data_lines(found: Survey, data: Settings) -> Iterator[str]:
    yield "# Settings of tfrec-meta, for: tfrec-meta train --run runs/shop --config FILE"
    yield "data:"
    yield f"  source: {yaml_of([_relative(source) for source in data['source']])}"
    yield "  columns:  # our name: the name in the files"
    used: dict[str, str] = {}
    for key, proposal in found.mapping.items():
        if proposal.column is None:
            continue
        line = f"    {key}: {yaml_of(proposal.column)}{_remark(proposal)}"
        optional = key in ("value", "event_type")
        if optional and not proposal.sure:
            line = line.replace("    ", "    # ", 1)
        else:
            used[key] = proposal.column
        yield line
    for key, name in data.get("columns", {}).items():
        if key not in used:
            yield f"    {yaml_of(key)}: {yaml_of(name)}"
    for name in ("users", "items"):
        if name in data:
            yield f"  {name}: {yaml_of(_relative(data[name]))}"
    form = found.form.as_dict()
    for name in FORMAT_SETTINGS:
        if form[name] != DEFAULTS["data"][name]:
            remark = _time_remark(found) if name == "time_format" else ""
            yield f"  {name}: {yaml_of(form[name])}{remark}"
    yield from _bad_row_lines(found)
    if "clean" in data:
        yield f"  clean: {yaml_of(data['clean'])}"
    if "sessions" in data:
        yield f"  sessions: {yaml_of(data['sessions'])}"
    users = found.mapping["user_id"].column
    if "pseudonyms" in data:
        yield f"  pseudonyms: {yaml_of(data['pseudonyms'])}"
    elif any(one.column == users for one in found.personal):
        yield "  # pseudonyms: TFREC_META_KEY  # the ids of users look personal; the variable"
        yield "  #   with the key under which they are replaced"


def _bad_row_lines(found: Survey) -> Iterator[str]:
    share, form = found.invalid_share, found.form
    if not share or form.bad_rows == "drop":
        return
    if share <= form.max_bad_share:
        yield f"  bad_rows: drop  # {share:.2%} of the rows cannot be read"
        return
    most = math.ceil(share * 100) / 100
    yield f"  # {share:.1%} of the rows cannot be read. Fix the files, or drop these rows:"
    yield "  # bad_rows: drop"
    yield f"  # max_bad_share: {most:g}"


def _other_lines(found: Survey, given: Mapping[str, Any]) -> Iterator[str]:
    types = found.event_types
    if "feedback" in given:
        yield f"feedback: {yaml_of(given['feedback'])}"
    elif len(types) > 1 and found.mapping["event_type"].sure:
        yield "# feedback:  # all types of events count alike, unless you say how they count:"
        weights = ", ".join(f"{yaml_of(printable(name, lines=False))}: 1" for name in types)
        yield f"#   event_weights: {{{weights}}}"
        yield f"#   target: {yaml_of([printable(list(types)[-1], lines=False)])}"
    split = given.get("split", {})
    yield "split:"
    if "protocol" in split:
        yield f"  protocol: {yaml_of(split['protocol'])}"
    else:
        yield f"  protocol: {found.split}  # {_SPLIT_REASONS[found.split]}"
    yield from (f"  {name}: {split[name]}" for name in ("train", "validation") if name in split)
    new = found.newcomers
    if new is not None and new.user_share >= _MANY:
        yield f"  # {new.user_share:.0%} of the last users are new: see docs/metalearning.md"
    if new is not None and new.item_share >= _MANY:
        yield f"  # {new.item_share:.0%} of the last items are new: give `items`, a table with"
        yield "  #   their texts, and see the family content_tower"
    if "recommend_history" in given:
        yield f"recommend_history: {yaml_of(given['recommend_history'])}"
    elif found.repeats is not None:
        share = f"{found.repeats.share:.1%} of the pairs of user and item are repeated"
        yield f"recommend_history: {yaml_of(found.recommends_history)}  # {share}"
        if len(types) > 1 and found.mapping["event_type"].sure:
            yield "#   these may be repeated views: with a `target` such as purchases, use true"
            yield "#   only if users repeat these; else past purchases are recommended again"
    yield f"seed: {yaml_of(given.get('seed', DEFAULTS['seed']))}"
    if "strategy" in given:
        yield f"strategy: {yaml_of(given['strategy'])}"
    else:
        yield "strategy:"
        yield "  family: ials  # trains in seconds; then compare two_tower (docs/models.md)"
    for group in (EVALUATION, EXPORT, PIPELINE):
        if group in given:
            yield f"{group}: {yaml_of(given[group])}"


_SPLIT_REASONS = {
    "time": "train on the past, test on the future",
    "item": "at random, since the events have no different times",
}


def _remark(proposal: Proposal) -> str:
    if proposal.sure:
        return ""
    others = ", ".join(printable(name, lines=False) for name in proposal.alternatives[:5])
    return f"  # unsure{f'; or {others}' if others else ''}"


def _time_remark(found: Survey) -> str:
    formats = found.time_formats
    if len(formats) < 2:
        return ""
    return f"  # unsure: the day or the month comes first; or {', '.join(formats[1:])}"


def _relative(path: str) -> str:
    """Returns a path below the working directory as a relative one."""
    if is_url(path):
        return path
    shorter = os.path.relpath(path)
    return path if shorter.startswith(os.pardir) else shorter
