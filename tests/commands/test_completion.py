"""`tfrec-meta completion`: the scripts, and the completions that they ask for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_says_how_to_install_it(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    shown = capsys.readouterr().out
    assert "_TFREC_META_COMPLETE" in shown
    assert shown.splitlines()[-1].startswith(
        f"# To install this script: tfrec-meta completion {shell} >"
    )
    answer = run_json(capsys, "completion", shell)
    assert answer["shell"] == shell
    assert shown.startswith(answer["script"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_valid(shell, capsys, tmp_path):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    assert cli.main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    subprocess.run([program, "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tfrec-meta ev", {"evaluate"}),
        ("tfrec-meta studies ", {"list", "show", "export", "import", "prune", "compact"}),
        ("tfrec-meta train --split cold-", {"cold-users", "cold-items"}),
        ("tfrec-meta train --over", {"--overwrite"}),
    ],
)
def test_commands_options_and_choices_are_completed(line, expected):
    words = line.split()
    done = subprocess.run(
        [sys.executable, "-c", "from tfrec_meta.commands.main import main; main()"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "_TFREC_META_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - (not line.endswith(" "))),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert {found.partition(",")[2] for found in done.stdout.split()} == expected
