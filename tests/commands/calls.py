"""Calls of the command in tests."""

import json

from tfrec_meta.commands import main as cli


def run_json(capsys, *arguments: str) -> dict:
    """Returns the one JSON object that a successful command prints."""
    capsys.readouterr()
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)
