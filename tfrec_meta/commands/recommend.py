"""`tfrec-meta recommend`: requests recommendations from a server."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrec_meta.commands import options, recommendations
from tfrec_meta.commands.base import Result, command, note, option
from tfrec_meta.commands.config_option import config_option, refuse_other_run, with_config
from tfrec_meta.commands.server_options import ServerOptions, server_options
from tfrec_meta.commands.values import AttributeValues, names
from tfrec_meta.errors import ParameterError
from tfrec_meta.export import signatures
from tfrec_meta.io.pseudonyms import key_of, pseudonym

if TYPE_CHECKING:
    from tfrec_meta.serving import Client, Recommendation
    from tfrec_meta.workflows.known_events import KnownEvents


@command(
    "recommend",
    "--user 42 --run runs/first",
    "--user 42 --history 50,181,1 -k 5",
    "--user 42 --model shop --pseudonyms SHOP_KEY",
    "--user 42 --run runs/first --filter genres=Comedy,Drama",
    "--user 42 --config shop.yaml",
    "--server 127.0.0.1:8500 --model shop --history 50 --titles models/shop --json",
    rereads_data=True,
    extra="serving",
)
@option(
    "--model",
    metavar="NAME",
    help="Name of the served model (default: that of the run folder, else of the config file, else "
    f"of the only folder in {options.MODELS}, else {options.folder_name(options.RUN)}).",
)
@option("--user", default="", empty=True, metavar="ID", help="The user (default: an unknown user).")
@options.pseudonyms_option(
    "Send the pseudonym of the user, for a model that was trained with --pseudonyms; the key is in "
    "this environment variable (default TFREC_META_KEY). With --run, this is a setting of the run.",
)
@option(
    "--history",
    empty=True,
    metavar="IDS",
    help="The user's items, oldest first, separated by commas; an id with a comma in quotation "
    "marks, as in '12,\"fish, smoked\"'.",
)
@options.run_option(
    None, "Read the user's history from the data of this run; the running server recommends."
)
@config_option("YAML file whose data has the user's history and the titles.")
@options.exclude_option
@option(
    "--filter",
    "filters",
    many=True,
    type=AttributeValues(),
    metavar="ATTRIBUTE=VALUE,...",
    help="Recommend only items with one of these values, of a model that was exported with "
    "--filters ATTRIBUTE.",
)
@options.length_option("Number of recommendations.")
@options.titles_option
@options.title_column_option
@server_options
def recommend(
    model: str | None,
    user: str,
    pseudonyms: str | None,
    history: str | None,
    run: str | None,
    config: str | None,
    exclude: str | None,
    filters: Sequence[tuple[str, list[str]]],
    k: int,
    titles: str | None,
    title_column: str | None,
    server: ServerOptions,
) -> Result:
    """Sends the request with the given history, or with the history that the run has."""
    asked = user if pseudonyms is None else _pseudonym(user, pseudonyms, run)
    items, excluded, known = names(history), names(exclude), set()
    title_of, warnings = {}, []
    place = run or config
    if model is None:
        if run is not None:
            model = options.folder_name(run)
        else:
            model = options.usual_model() if config is None else Path(config).stem
    if place is not None:
        events = _known_events(run, config, pseudonyms)
        asked = events.user_id(user)
        title_of = events.titles(title_column or recommendations.TITLE)
        known = set(events.data.item_ids)
        if user and not items:
            items = events.history(user)
            if not items:
                warnings.append(f"{place} has no user {user!r}; these are the popular items.")
    served = recommendations.served_titles(titles, model, title_column)
    title_of |= {item: title for item, title in served.items() if title != item}
    recommendations.check_title_column(title_column, title_of)
    warnings += _unknown_items("--history", names(history), served or known)
    warnings += _unknown_items("--exclude", excluded, served or known)
    with server.client(model) as client:
        wanted = {"exclude": excluded, "k": k, **_filter_inputs(client, model, filters)}
        found = client.recommend(asked, history=items, **wanted)
        # With --run or --config, the id has found the history or is reported already.
        # A request of its own: scores of two users at once differ in the last digit.
        if user.strip() and (place is None or history):
            without = client.recommend("", history=items, **wanted)
            warnings += _unused_id(user, found, without, bool(items))
    for warning in warnings:
        note(f"warning: {warning}")
    shown = recommendations.lines(found, title_of)
    content = {
        "user": user,
        "model": model,
        "history": items,
        "warnings": warnings,
        "recommendations": recommendations.records(found, title_of),
    }
    passed = " that passes --filter" if filters else ""
    nothing = f"no recommendations: no item of the catalogue{passed} is left."
    return Result(content, "\n".join(shown) if shown else nothing)


def _known_events(run: str | None, config: str | None, pseudonyms: str | None) -> KnownEvents:
    """Returns the events of a run, or else those of a config file."""
    if run is not None:
        from tfrec_meta.workflows.runs import Run

        this = Run.open(run)
        refuse_other_run(config, this)
        return this.known_events
    from tfrec_meta.workflows.known_events import KnownEvents

    given = {} if pseudonyms is None else {"data": {"pseudonyms": pseudonyms}}
    with with_config(config, given) as settings:
        return KnownEvents.read(settings)


def _filter_inputs(
    client: Client, model: str, filters: Sequence[tuple[str, list[str]]]
) -> dict[str, list[str]]:
    """Returns the values of each filter by the name of its input.

    Raises:
        ParameterError: if the model was exported without one of the filters.
    """
    if not filters:
        return {}
    signature = client.metadata().signatures.get(signatures.RECOMMEND)
    inputs: dict[str, list[str]] = {}
    for attribute, values in filters:
        name = signatures.FILTER_PREFIX + attribute
        if signature is None or name not in signature.inputs:
            raise ParameterError(
                f"`filters` names {attribute!r}, but the model {model!r} was exported without this "
                f"filter. Export it again: tfrec-meta export --filters {attribute}",
                "filters",
            )
        inputs[name] = inputs.get(name, []) + values
    return inputs


def _pseudonym(user: str, key_env: str, run: str | None) -> str:
    """Returns the pseudonym of a user under the key in an environment variable.

    Raises:
        ParameterError: if `--pseudonyms` has no effect.
        ValueError: if the key is missing or too short.
    """
    if run is not None:
        raise ParameterError(
            f"`pseudonyms` is a setting of {run}, which has its own key. Leave out `pseudonyms`.",
            "pseudonyms",
        )
    if not user.strip():
        raise ParameterError(
            "`pseudonyms` has no effect without a `user`. Leave it out, or name a `user`.",
            "pseudonyms",
            "user",
        )
    return pseudonym(user.strip(), key_of(key_env))


def _unused_id(
    user: str,
    found: Sequence[Recommendation],
    without: Sequence[Recommendation],
    has_history: bool,
) -> list[str]:
    """Warns if the answer for a user is that for no user."""
    if not found or [one.item_id for one in found] != [one.item_id for one in without]:
        return []
    pairs = zip(found, without, strict=True)
    if not all(math.isclose(one.score, other.score, rel_tol=1e-5) for one, other in pairs):
        return []
    hint = "" if has_history else " These are the popular items; --run sends the user's history."
    return [f"the user id {user!r} has no effect: the answer is the same without it.{hint}"]


def _unknown_items(flag: str, given: Sequence[str], catalogue: Collection[str]) -> list[str]:
    """Warns of items that the catalogue does not have; an empty catalogue is an unknown one."""
    unknown = [item for item in given if item not in catalogue]
    if not unknown or not catalogue:
        return []
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    nothing_left = flag == "--history" and len(unknown) == len(given)
    effect = "; these are the popular items" if nothing_left else ""
    shown = ", ".join(map(repr, unknown[:5]))
    return [f"{flag} has items that are not in the catalogue: {shown}{more}{effect}."]
