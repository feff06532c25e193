"""`tfrec-meta adapt`: requests recommendations for a new user from a few items."""

from __future__ import annotations

import math

from tfrec_meta.commands import options, recommendations
from tfrec_meta.commands.base import Result, command, note, option
from tfrec_meta.commands.server_options import ServerOptions, server_options
from tfrec_meta.commands.values import names
from tfrec_meta.errors import ParameterError


@command(
    "adapt",
    "--items 50,181 --model newcomers",
    "--items 50,181=0 --exclude 1 -k 5      (181: not for this user)",
    extra="serving",
)
@option(
    "--items",
    metavar="IDS",
    parameters=("support",),
    help="The user's items, separated by commas; ID=LABEL with a label from 0 (not for this user) "
    "to 1 (chosen), or with a rating (default: chosen).",
)
@option(
    "--model",
    metavar="NAME",
    default=options.folder_name(options.RUN),
    show_default=True,
    help="Name of the served model.",
)
@options.exclude_option
@options.length_option("Number of recommendations.")
@options.titles_option
@options.title_column_option
@server_options
def adapt(
    items: str | None,
    model: str,
    exclude: str | None,
    k: int,
    titles: str | None,
    title_column: str | None,
    server: ServerOptions,
) -> Result:
    """Sends the items as a support set."""
    support = _support(names(items))
    title_of = recommendations.served_titles(titles, model, title_column)
    recommendations.check_title_column(title_column, title_of)
    with server.client(model) as client:
        (found,) = client.adapt([support], exclude=[names(exclude)], k=k)
    if found.support_used < len(support):
        note(f"warning: the model knows {found.support_used} of the {len(support)} items.")
    content = {
        "model": model,
        "support": support,
        "support_used": found.support_used,
        "recommendations": recommendations.records(found.items, title_of),
    }
    return Result(content, "\n".join(recommendations.lines(found.items, title_of)))


def _support(words: list[str]) -> dict[str, float | None]:
    """Returns the label of each item; None without a label.

    Raises:
        ParameterError: if there is no id, or a label is not a finite number.
    """
    support = {}
    for word in words:
        item, _, label = word.rpartition("=") if "=" in word else (word, "", "")
        try:
            support[item] = float(label) if label else None
        except ValueError:
            support[item] = math.nan
        if not item or not math.isfinite(support[item] or 0.0):
            raise ParameterError(
                f"`items`={word!r}; use an id, or an id and a number, as in 50=0.", "items"
            )
    return support
