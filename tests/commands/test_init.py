"""`tfrec-meta init`: the folder of a recipe."""

import re
import shlex

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.workflows.configs.config_files import read_config
from tfrec_meta.workflows.configs.recipes import RECIPES


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_folder_has_a_config_and_a_page(recipe, working_folder, capsys):
    assert cli.main(["init", recipe]) == 0
    shown = capsys.readouterr().out
    assert f"next: tfrec-meta train --run runs/{recipe} --config {recipe}/config.yaml" in shown
    assert f"then: put your files into {recipe}" in shown
    data = read_config(f"{recipe}/config.yaml")["data"]
    assert data["source"] == [str(working_folder / recipe / "events.csv")]
    assert data["items"] == str(working_folder / recipe / "items.csv")
    page = (working_folder / recipe / "README.md").read_text()
    for words in ("What it optimises", "Split", "Gate", "In production"):
        assert f"**{words}" in page
    assert not (working_folder / recipe / "events.csv").exists()


def test_sample_data_are_read_with_the_config(working_folder, capsys):
    found = run_json(capsys, "init", "shop", "--sample-data")
    names = ["README.md", "config.yaml", "events.csv", "items.csv"]
    assert found["files"] == [f"shop/{name}" for name in names]
    assert sorted(path.name for path in (working_folder / "shop").iterdir()) == names
    assert cli.main(["data", "check", "shop/events.csv", "--rows", "1000"]) == 0
    shown = capsys.readouterr().out
    assert "  user_id     customer  by its name\n" in shown
    assert "  event_type  action    by its name" in shown


def test_a_seed_gives_the_same_sample_data_again(working_folder):
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert cli.main(["init", "music", folder, "--sample-data", "--seed", seed]) == 0
    one, same, other = ((working_folder / name / "events.csv").read_bytes() for name in "abc")
    assert one == same
    assert one != other


@pytest.mark.parametrize("folder", ["my shop: x", "deep/er/shop2", "."])
def test_paths_and_runs_have_the_name_of_the_folder(folder, working_folder, capsys):
    found = run_json(capsys, "init", "shop", folder)
    target = working_folder / folder
    config = target / "config.yaml"
    assert read_config(config)["data"]["items"] == str(target.resolve() / "items.csv")
    name = target.resolve().name
    page = (target / "README.md").read_text()
    assert shlex.quote(f"models/{name}") in page
    assert "runs/shop " not in page
    words = shlex.split(found["next"])
    assert words[:4] == ["tfrec-meta", "train", "--run", f"runs/{name}"]
    assert (working_folder / words[5]).samefile(config)


def test_requests_name_the_served_model_of_the_folder(working_folder):
    assert cli.main(["init", "music", "my"]) == 0
    page = (working_folder / "my" / "README.md").read_text()
    assert "tfrec-meta recommend --model my --history t17 " in page
    assert "--model music" not in page


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_in_comments_are_accepted(recipe, working_folder):
    assert cli.main(["init", recipe]) == 0
    for config in (working_folder / recipe).glob("*.yaml"):
        text = config.read_text()
        shown = re.sub(r"(?m)^( *)# (?=[a-z_]+: [\[{])", r"\1", text)
        assert shown != text or "# clean:" not in text
        config.write_text(shown)
        read_config(config)


def test_a_folder_that_is_not_empty_is_kept(working_folder, capsys):
    (working_folder / "shop").mkdir()
    (working_folder / "shop" / "notes.txt").write_text("mine")
    assert cli.main(["init", "shop"]) == 1
    error = capsys.readouterr().err
    assert "error: shop is not empty" in error
    assert "Use a new folder: tfrec-meta init shop shop-2" in error
    assert [path.name for path in (working_folder / "shop").iterdir()] == ["notes.txt"]
    assert [path.name for path in working_folder.iterdir()] == ["shop"]
    assert cli.main(["init", "shop", "shop-2"]) == 0


def test_an_unknown_recipe_lists_the_recipes(capsys):
    assert cli.main(["init", "bakery"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in RECIPES)


def test_the_help_lists_the_recipes_with_what_they_recommend(capsys):
    assert cli.main(["init", "--help"]) == 0
    shown = capsys.readouterr().out
    for name, text in RECIPES.items():
        assert f"{name:<5}  {text}" in shown


def test_a_column_that_a_recipe_needs_is_named_by_train(working_folder, capsys):
    assert cli.main(["init", "shop", "--sample-data"]) == 0
    events = working_folder / "shop" / "events.csv"
    lines = [line.rsplit(",", 1)[0] for line in events.read_text().splitlines()]
    events.write_text("\n".join(lines) + "\n")
    assert cli.main(["train", "--run", "runs/shop", "--config", "shop/config.yaml"]) == 1
    error = capsys.readouterr().err
    assert "has no column `action` (for `event_type`)" in error
    assert "It is needed: purchases are predicted" in error
    assert not (working_folder / "runs").exists()
