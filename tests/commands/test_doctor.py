"""`tfrec-meta doctor`: its lines, its JSON object and its exit status."""

import io
import json
import sys

from tfrec_meta.commands import installation
from tfrec_meta.commands import main as cli


def test_doctor_prints_one_line_per_check_with_its_fix(monkeypatch, capsys):
    checks = [
        installation.Check("TFX", False, "tfx is not installed.", "make setup"),
        installation.Check("device", False, "no GPU.", needed=False),
        installation.Check("glibc", True, "2.41"),
    ]
    monkeypatch.setattr(installation, "run_checks", lambda: iter(checks))
    assert cli.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["WRONG", "TFX"],
        ["absent", "device"],
        ["ok", "glibc"],
    ]
    assert lines[0].endswith("tfx is not installed. To fix it: make setup")


def test_a_missing_part_that_is_not_needed_is_no_fault(monkeypatch):
    absent = installation.Check("TFX", False, "tfx is not installed.", needed=False)
    monkeypatch.setattr(installation, "run_checks", lambda: iter([absent]))
    assert cli.main(["doctor"]) == 0


def test_doctor_has_a_status_and_json(capsys, monkeypatch):
    checks = [
        installation.Check("Python", True, "here"),
        installation.Check("TFX", False, "gone", "fix it"),
    ]
    monkeypatch.setattr(installation, "run_checks", lambda: iter(checks))
    assert cli.main(["doctor"]) == 1
    assert "fix it" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in answer["checks"]] == ["Python", "TFX"]


def test_doctor_prints_its_lines_on_a_terminal_too(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    checks = [installation.Check("TFX", False, "[tfx] is missing.", "make setup")]
    monkeypatch.setattr(installation, "run_checks", lambda: iter(checks))
    assert cli.main(["doctor"]) == 1
    shown = terminal.getvalue()
    assert "checking the installation" in shown
    assert "WRONG   TFX                  [tfx] is missing. To fix it: make setup\n" in shown
