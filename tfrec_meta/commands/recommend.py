"""`tfrec-meta recommend`: requests recommendations from a server."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tfrec_meta.commands import options, recommendations
from tfrec_meta.commands.base import Result, command, note, option
from tfrec_meta.commands.server_options import ServerOptions, server_options
from tfrec_meta.commands.values import names
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.pseudonyms import key_of, pseudonym


@command(
    "recommend",
    "--user 42 --run runs/first",
    "--user 42 --history 50,181,1 -k 5",
    "--user 42 --model shop --pseudonyms SHOP_KEY",
    "--server 127.0.0.1:8500 --model shop --history 50 --titles models/shop --json",
    rereads_data=True,
    extra="serving",
)
@option(
    "--model",
    metavar="NAME",
    help="Name of the served model (default: that of the run folder; "
    f"{options.folder_name(options.RUN)} without --run).",
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
    help="The user's items, oldest first, separated by commas.",
)
@options.run_option(None, "Read the user's history from the data of this run.")
@options.exclude_option
@options.length_option("Number of recommendations.")
@options.titles_option
@server_options
def recommend(
    model: str | None,
    user: str,
    pseudonyms: str | None,
    history: str | None,
    run: str | None,
    exclude: str | None,
    k: int,
    titles: str | None,
    server: ServerOptions,
) -> Result:
    """Sends the request with the given history, or with the history that the run has."""
    asked = user if pseudonyms is None else _pseudonym(user, pseudonyms, run)
    items, known, title_of, warnings = names(history), set(), {}, []
    model = options.folder_name(run or options.RUN) if model is None else model
    if run is not None:
        from tfrec_meta.workflows.runs import Run

        this = Run.open(run)
        asked = this.user_id(user)
        title_of, known = this.titles(), set(this.split.data.item_ids)
        if user and not items:
            items = this.history(user)
            if not items:
                warnings.append(f"{run} has no user {user!r}; these are the popular items.")
    served = recommendations.served_titles(titles, model)
    title_of |= {item: title for item, title in served.items() if title != item}
    if history:
        warnings += _unknown_items(items, served or known)
    for warning in warnings:
        note(f"warning: {warning}")
    with server.client(model) as client:
        found = client.recommend(asked, history=items, exclude=names(exclude), k=k)
    shown = recommendations.lines(found, title_of)
    content = {
        "user": user,
        "model": model,
        "history": items,
        "warnings": warnings,
        "recommendations": recommendations.records(found, title_of),
    }
    nothing = "no recommendations: no item of the catalogue is left."
    return Result(content, "\n".join(shown) if shown else nothing)


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


def _unknown_items(history: Sequence[str], catalogue: Collection[str]) -> list[str]:
    """Warns of items that the catalogue does not have; an empty catalogue is an unknown one."""
    unknown = [item for item in history if item not in catalogue]
    if not unknown or not catalogue:
        return []
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    effect = "" if len(unknown) < len(history) else "; these are the popular items"
    shown = ", ".join(map(repr, unknown[:5]))
    return [f"--history has items that are not in the catalogue: {shown}{more}{effect}."]
