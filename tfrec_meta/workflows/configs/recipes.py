"""Recipes: folders with a config and a page for a kind of product, and sample data for them.

Imports neither TensorFlow nor pyarrow, unless sample data is drawn.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from tfrec_meta.checks import check, whole_number
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.files import publish_folder, sync_tree, work_folder
from tfrec_meta.io.yaml_text import yaml_of

if TYPE_CHECKING:
    import pyarrow as pa

RECIPES: Mapping[str, str] = {
    "shop": "purchases, learned from views, carts and purchases; in stock only",
    "news": "fresh articles without clicks, by their words and sections",
    "video": "videos that are watched to the end, by watch time",
    "music": "favourites and new tracks, sessions, radio from one track",
    "feed": "posts to open, like and share in one model; hidden posts count against",
}
"""What each recipe recommends, by name."""
CONFIG = "config.yaml"
SAMPLE_USERS = 800


def write_recipe(
    name: str,
    folder: Path | str | None = None,
    *,
    sample_data: bool = False,
    users: int = SAMPLE_USERS,
    seed: int = 42,
) -> list[Path]:
    """Writes the folder of a recipe. Its files are complete before any of them appears.

    Paths in the files are relative to the working directory, as those of all configs are.

    Args:
        name: one of `RECIPES`.
        folder: a folder that does not exist or is empty; by default `name`.
        sample_data: whether files of events and items are drawn as well.
        users: their number in the sample data.
        seed: of the sample data.

    Returns:
        The paths of the files.

    Raises:
        FileExistsError: if the folder is not empty.
        ParameterError: for an unknown recipe.
    """
    if name not in RECIPES:
        raise ParameterError(f"`recipe`={name!r}; use one of {', '.join(RECIPES)}.", "recipe")
    check("seed", seed, whole_number(0, 2**32 - 1))
    folder = Path(name if folder is None else folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} is not empty, and its files might be replaced. Use a new folder: "
            f"tfrec-meta init {name} {_unused(folder)}"
        )
    is_new = not folder.exists()
    with work_folder(folder if is_new else folder / name) as work:
        for path, text in _texts(name, folder).items():
            (work / path).write_text(text, encoding="utf-8")
        if sample_data:
            import pyarrow.csv

            for path, table in _draw(name)(users, seed).items():
                pyarrow.csv.write_csv(
                    table, work / path, pyarrow.csv.WriteOptions(quoting_style="needed")
                )
        names = sorted(path.name for path in work.iterdir())
        sync_tree(work)
        if is_new:
            publish_folder(work, folder)
        else:  # perhaps the working directory, which has to stay the same folder
            for path in names:
                os.replace(work / path, folder / path)
    return [folder / path for path in names]


def _texts(name: str, folder: Path) -> dict[str, str]:
    """The files of a recipe, with their paths and runs renamed for a folder."""
    found = {}
    for file in sorted((resources.files("tfrec_meta") / "recipes" / name).iterdir(), key=str):
        quote = yaml_of if file.name.endswith(".yaml") else shlex.quote
        found[file.name] = _renamed(file.read_text(encoding="utf-8"), name, folder, quote)
    return found


def _renamed(text: str, name: str, folder: Path, quote: Callable[[str], str]) -> str:
    """Replaces the paths "name/..." by those of a folder, and the names of runs and models."""
    if str(folder) == name:
        return text
    text = re.sub(rf"(?<![\w./-]){name}/([\w.]+)", lambda path: quote(str(folder / path[1])), text)
    own = folder.resolve().name
    text = re.sub(rf"(?<=--model ){name}\b", lambda _: quote(own), text)
    return re.sub(rf"\b(runs|models)/{name}\b", lambda path: quote(f"{path[1]}/{own}"), text)


def _draw(name: str) -> Callable[[int, int], dict[str, pa.Table]]:
    """The function that draws the sample data of a recipe."""
    module = importlib.import_module(f"tfrec_meta.data.samples.{name}")
    draw: Callable[[int, int], dict[str, pa.Table]] = getattr(module, f"draw_{name}")
    return draw


def _unused(folder: Path) -> str:
    """A path beside a folder that does not exist."""
    base, number = folder.resolve(), 2
    while (found := base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return shlex.quote(os.path.relpath(found))
