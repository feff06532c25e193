"""`tfrec-meta init`: writes the folder of a recipe. Loads no TensorFlow."""

from __future__ import annotations

import shlex

import click

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, argument, command, option
from tfrec_meta.commands.values import FOLDER
from tfrec_meta.workflows.configs.recipes import CONFIG, RECIPES, write_recipe

_WIDTH = max(map(len, RECIPES))


@command(
    "init",
    "shop --sample-data",
    "shop",
    "news my-news --sample-data --seed 7",
    details="recipes:\n\n\b\n"
    + "\n".join(f"  {name:<{_WIDTH}}  {text}" for name, text in RECIPES.items())
    + "\n\nThe folder has a config, which explains its choices in comments, and README.md with the "
    "next commands, the split, the gate, and what to watch in production.",
)
@argument("recipe", type=click.Choice(list(RECIPES)), metavar="RECIPE", help="One of those above.")
@argument(
    "folder",
    required=False,
    type=FOLDER,
    help="The folder, which does not exist or is empty (default: the name of the recipe).",
)
@option(
    "--sample-data",
    is_flag=True,
    help="Also draw files of events and items from known tastes, to try the recipe.",
)
@option(
    "--seed",
    type=int,
    default=42,
    metavar="N",
    show_default=True,
    help="Seed of the sample data.",
)
def init(recipe: str, folder: str | None, sample_data: bool, seed: int) -> Result:
    """Writes the folder, and prints the next command."""
    paths = write_recipe(recipe, folder, sample_data=sample_data, seed=seed)
    written = paths[0].parent
    run = f"runs/{options.folder_name(written)}"
    train = "tfrec-meta train " + shlex.join(["--run", run, "--config", str(written / CONFIG)])
    lines = [f"wrote {path}" for path in paths]
    if not sample_data:
        lines.append(f"then: put your files into {written}, or change the paths in the config")
    lines += [f"next: {train}", f"all steps: {written / 'README.md'}"]
    content = {
        "recipe": recipe,
        "folder": str(written),
        "files": [str(path) for path in paths],
        "next": train,
    }
    return Result(content, "\n".join(lines))
