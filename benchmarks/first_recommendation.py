"""How long does it take from raw files to the first recommendation, with the documented commands?

For each recipe, in an empty folder: `tfrec-meta init RECIPE --sample-data`, which draws the raw
files, and then the commands in the recipe's README.md up to the first answer over gRPC: train,
export, serve, recommend. Each command is a new process. Wall time is measured from the start of
the first command to the end of the last one. Only the port of the server is added to the documented
commands, since port 8500 may be in use.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import tfrec_meta
from benchmarks import arguments
from tfrec_meta.workflows.configs.recipes import RECIPES

PROGRAM = "tfrec-meta"
COMMAND = (sys.executable, "-m", "tfrec_meta.commands.main")
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(tfrec_meta.__file__).parents[1])}


def documented_commands(page: Path) -> list[list[str]]:
    """The words of the commands in the first block of a recipe's page, up to the first answer."""
    block = re.search(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S)
    if block is None:
        raise ValueError(f"{page} has no block of commands.")
    lines = [shlex.split(line, comments=True) for line in block[1].splitlines()]
    last = next(place for place, words in enumerate(lines) if words[1] == "recommend")
    return lines[: last + 1]


def run(words: Sequence[str], folder: Path) -> str:
    """Runs a documented command to its end. Returns its standard output."""
    done = subprocess.run(
        [*COMMAND, *words[1:]],
        check=False,
        cwd=folder,
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)} ended with {done.returncode}.")
    return done.stdout


def first_recommendation(recipe: str, folder: Path, seed: int) -> tuple[float, int]:
    """Follows a recipe in an empty folder. Returns the seconds, and the number of commands."""
    began = time.perf_counter()
    run([PROGRAM, "init", recipe, "--sample-data", "--seed", str(seed)], folder)
    server, address, count = None, "", 1
    try:
        for words in documented_commands(folder / recipe / "README.md"):
            count += 1
            print(f"{recipe}: {shlex.join(words)}", file=sys.stderr, flush=True)
            if words[1] == "serve":
                server = subprocess.Popen(
                    [*COMMAND, *words[1:], "--port", "0"],
                    cwd=folder,
                    env=_ENVIRONMENT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                assert server.stdout is not None
                address = server.stdout.readline().split()[-1]  # listening on HOST:PORT
            elif words[1] == "recommend":
                answer = run([*words, "--server", address], folder)
                if not answer.strip() or answer.startswith("no recommendations"):
                    raise RuntimeError(f"{shlex.join(words)} printed no items.")
                print(answer, file=sys.stderr, flush=True)
            else:
                run(words, folder)
        return time.perf_counter() - began, count
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=60)


def main() -> None:
    """Follows the recipes one after another, and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42, help="of the raw files (default 42)")
    parser.add_argument("--quick", action="store_true", help="the first recipe only")
    chosen = parser.parse_args()
    chosen.data = "sample data"
    seconds, commands = {}, {}
    for recipe in list(RECIPES)[: 1 if chosen.quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            seconds[f"seconds_{recipe}"], commands[f"commands_{recipe}"] = first_recommendation(
                recipe, Path(folder), chosen.seed
            )
    arguments.finish({**seconds, **commands}, chosen)


if __name__ == "__main__":
    main()
