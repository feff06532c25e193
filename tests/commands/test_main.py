"""The command as a whole: help, exit statuses, errors, and what it imports."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tfrec_meta.commands import base
from tfrec_meta.commands import main as cli
from tfrec_meta.commands.summaries import GROUPS, SECTIONS

COMMANDS = [
    *(name for commands in SECTIONS.values() for name in commands if name not in GROUPS),
    *(f"{group} {name}" for group, commands in GROUPS.items() for name in commands),
]
# What `--help` may load, apart from the standard library.
LIGHT = {"click", "tfrec_meta"}


def python(code: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a new process."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    assert cli.main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"examples:\n  tfrec-meta {command}" in shown
    assert "--debug" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_help_are_valid_command_lines(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("wide.json", "studies.json", "log.csv", "shop.yaml"):
        (tmp_path / name).touch()
    first, _, second = command.partition(" ")
    found = base.module_command(first)
    found = found.find(second) if second else found
    for example in found.examples:
        words = shlex.split(re.sub(r" {2,}\(.*", "", example))  # a remark ends some examples
        assert found.make_context(command, words).params


def test_the_help_lists_every_command_with_its_summary(capsys):
    assert cli.main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for section, commands in SECTIONS.items():
        assert f"{section}: " in shown
        for name, summary in commands.items():
            assert f"{name} {summary}" in shown


def test_the_version_is_printed(capsys):
    import tfrec_meta

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfrec-meta {tfrec_meta.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bake"],
        ["train", "--split", "alphabet"],
        ["train", "--columns", "user_id"],
        ["recommend", "-k", "five"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    assert cli.main(arguments) == 2
    assert "Usage: tfrec-meta" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["import tfrec_meta", "", *COMMANDS, *GROUPS])
def test_help_and_the_package_load_no_heavy_package(name, tmp_path):
    code = "import tfrec_meta"
    if name != code:
        words = [*name.split(), "--help"]
        code = f"from tfrec_meta.commands.main import main; assert main({words}) == 0"
    # In a new process, after what site-packages load at the start of Python.
    code = f"""
import sys
before = set(sys.modules)
{code}
loaded = {{name.split(".")[0] for name in set(sys.modules) - before}}
print("loaded:", *sorted(loaded - set(sys.stdlib_module_names)))
"""
    done = python(code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert loaded <= LIGHT


def test_commands_that_need_no_tensorflow_do_not_load_it(tmp_path):
    code = (
        "import sys\n"
        "from tfrec_meta.commands.main import main\n"
        "for line in (['--help'], ['train', '--help'], ['tune', '--help']):\n"
        "    assert main(line) == 0\n"
        "assert main(['recommend', '--server', '127.0.0.1:1', '--timeout', '0.2']) == 1\n"
        "assert main(['evaluate', '--run', 'nowhere']) == 1\n"
        "assert main(['train', '--run', 'new', '--data', 'nowhere.csv']) == 1\n"
        "assert main(['serve', 'nowhere']) == 1\n"
        "assert not {'tensorflow', 'tf_keras'} & set(sys.modules)\n"
    )
    done = python(code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == 4
    assert all(line.startswith("error: ") for line in errors)
    assert not list(tmp_path.iterdir())


def test_errors_name_the_options_of_the_command(tmp_path, capsys):
    assert cli.main(["recommend", "--server", "nowhere"]) == 1
    assert "error: --server='nowhere'; use host:port" in capsys.readouterr().err
    (tmp_path / "log.csv").write_text("who,item_id\nann,tea\nbob,\n")
    command = ["train", "--run", str(tmp_path / "run"), "--data", str(tmp_path / "log.csv")]
    assert cli.main(command) == 1
    assert "give the name of the `user_id` column in --columns" in capsys.readouterr().err
    assert cli.main([*command, "--columns", "user_id=who"]) == 1
    assert "or set --bad-rows to 'drop'." in capsys.readouterr().err


def test_debug_raises_the_error():
    with pytest.raises(FileNotFoundError):
        cli.main(["evaluate", "--run", "nowhere", "--debug"])


def test_a_reader_that_closes_the_pipe_is_no_error(tmp_path):
    code = (
        "import os, sys\n"
        "from tfrec_meta.commands.main import main\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "sys.exit(main(['completion', 'bash']))\n"
    )
    done = python(code, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
