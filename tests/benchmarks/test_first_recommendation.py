"""The documented commands of the recipes are few, and valid."""

import pytest

from benchmarks.first_recommendation import documented_commands
from tfrec_meta.commands import base
from tfrec_meta.workflows.configs.recipes import RECIPES, write_recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_five_commands_lead_to_the_first_answer(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(recipe)
    commands = documented_commands(tmp_path / recipe / "README.md")
    assert [words[1] for words in commands] == ["train", "export", "serve", "recommend"]
    for program, name, *arguments in commands:
        assert program == "tfrec-meta"
        assert base.module_command(name).make_context(name, arguments).params
    assert 1 + len(commands) <= 5  # with init
