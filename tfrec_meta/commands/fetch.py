"""`tfrec-meta fetch`: puts a MovieLens data set into the cache folder."""

from __future__ import annotations

from tfrec_meta.commands.base import Result, argument, command, option
from tfrec_meta.commands.values import FOLDER


@command("fetch", "", "100k 1m", "--cache data 25m")
@argument(
    "names",
    nargs=-1,
    metavar="[NAME]...",
    parameters=("name",),
    help="100k (default), 1m, 20m, 25m, 32m or latest-small.",
)
@option(
    "--cache",
    type=FOLDER,
    metavar="FOLDER",
    help="Folder to use instead of $TFREC_META_CACHE or the user's cache folder.",
)
def fetch(names: tuple[str, ...], cache: str | None) -> Result:
    """Fetches data sets that are not in the cache, and returns the folder of each."""
    from tfrec_meta.data import fetch_movielens

    folders = {}
    for given in names or ("100k",):
        name = given.removeprefix("movielens-")
        folders[f"movielens-{name}"] = str(fetch_movielens(name, cache))
    text = "\n".join(f"{name}: {folder}" for name, folder in folders.items())
    return Result({"data": folders}, text)
