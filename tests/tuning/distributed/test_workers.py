"""Roles of processes, and the launcher."""

import sys
import textwrap
import time

import pytest

from tfrec_meta.tuning.distributed import workers

ADDRESSES = {workers.ID: "chief", workers.ADDRESS: "127.0.0.1", workers.PORT: "1"}


# Roles.


def test_the_environment_sets_the_role_of_a_process():
    assert workers.role({}) == "alone"
    assert workers.role({workers.ID: "another program"}) == "alone"
    for name, role in (("chief", "chief"), ("worker-0", "worker"), ("tuner7", "worker")):
        variables = workers.environment(name, 8000)
        assert variables == {
            "KERASTUNER_TUNER_ID": name,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": "8000",
        }
        assert workers.role(variables) == role
        assert workers.address_of_chief(variables) == "127.0.0.1:8000"
    assert workers.address_of_chief(workers.environment("w", 1, "::1")) == "[::1]:1"


@pytest.mark.parametrize("missing", list(ADDRESSES))
def test_an_incomplete_environment_is_refused_with_the_missing_variables(missing):
    variables = {**ADDRESSES, missing: ""}
    with pytest.raises(ValueError, match=f"^{missing} not set; .*127.0.0.1"):
        workers.role(variables)


# The launcher, with scripts that do not search.


def launched(tmp_path, script, count=2):
    path = tmp_path / "script.py"
    head = """
        import os, sys, time
        from pathlib import Path
        folder = Path(__file__).parent
        name = os.environ["KERASTUNER_TUNER_ID"]
        (folder / name).touch()
        """
    path.write_text(textwrap.dedent(head) + textwrap.dedent(script))
    return workers.launch([sys.executable, "-S", str(path)], count)


def names(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".py")


def test_a_chief_and_its_workers_run_until_the_chief_ends(tmp_path):
    wait = """
        while len(list(folder.iterdir())) < 5:
            time.sleep(0.01)
        sys.exit(7 if name == "chief" else 0)
        """
    assert launched(tmp_path, wait, count=3) == 7
    assert names(tmp_path) == ["chief", "worker-0", "worker-1", "worker-2"]


def test_a_dead_worker_is_replaced(tmp_path, capfd):
    die_once = """
        if name == "worker-0":
            sys.exit(3)
        while not (folder / "worker-2").exists():
            time.sleep(0.01)
        """
    assert launched(tmp_path, die_once) == 0
    assert names(tmp_path) == ["chief", "worker-0", "worker-1", "worker-2"]
    assert "A worker ended with exit status 3; worker-2 replaces it." in capfd.readouterr().err


def test_the_chief_ends_if_all_workers_die(tmp_path, capfd):
    die = """
        if name != "chief":
            sys.exit(3)
        time.sleep(60)
        """
    began = time.monotonic()
    assert launched(tmp_path, die, count=1) == 1
    assert time.monotonic() - began < 20
    assert names(tmp_path) == ["chief", *(f"worker-{n}" for n in range(4))]
    assert "too many workers have ended" in capfd.readouterr().err


def test_a_launch_without_workers_is_refused():
    with pytest.raises(ValueError, match="`workers`=0"):
        workers.launch(["true"], 0)
