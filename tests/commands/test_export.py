"""`tfrec-meta export`: versions, and the defaults that lead from a run to its recommendations."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli


def test_export_uses_the_next_version(run, base, capsys):
    answer = run_json(capsys, "export", "--run", str(run), "--to", str(base))
    assert answer["version"] > 1
    assert (base / str(answer["version"]) / "saved_model.pb").is_file()
    assert cli.main(["export", "--run", str(run), "--to", str(base), "--version", "1"]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.slow
def test_the_defaults_lead_from_a_run_to_its_recommendations(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    assert run_json(capsys, "export")["export"] == str(Path("models", "first", "1"))
    command = [sys.executable, "-m", "tfrec_meta.commands.main", "serve", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on 127.0.0.1:")
        address = line.split()[-1]
        request = ["recommend", "--server", address]
        answer = run_json(capsys, *request, "--run", "runs/first", "--user", "u1")
        assert answer["recommendations"]
        assert (
            answer["recommendations"]
            == run_json(capsys, *request, "--user", "u1", "--history", ",".join(answer["history"]))[
                "recommendations"
            ]
        )
    finally:
        server.terminate()
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (0, "")
    shown = f"next: tfrec-meta {' '.join(request)} --model first --run runs/first --user ID"
    assert shown in err.splitlines()
