"""The JSON Schema of the config file: it accepts and refuses what reading the file does."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.data.survey.log import write_log
from tests.workflows.configs.wrong_configs import WRONG
from tfrec_meta.commands.data_options import DataOptions
from tfrec_meta.pipeline.configs import reference
from tfrec_meta.pipeline.configs.run_configs import is_run_config
from tfrec_meta.workflows.configs.config_files import read_config
from tfrec_meta.workflows.configs.data_check import check_data, starting_config
from tfrec_meta.workflows.configs.settings_schema import SCHEMA_FILE, stored_schema
from tfrec_meta.workflows.run_settings import complete_settings

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "settings.md"
OUT_OF_DATE = "run `make settings`"


@pytest.fixture(scope="module")
def check():
    """Raises if a config does not fit the schema."""
    return jsonschema.Draft202012Validator(stored_schema()).validate


def configs() -> dict[str, str]:
    """The configs of runs in the documentation and in the recipes, by their place."""
    found = {}
    for page in sorted((ROOT / "docs").rglob("*.md")):
        blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        found |= {f"{page.name} {number}": text for number, text in enumerate(blocks)}
    for path in sorted((ROOT / "examples" / "recipes").rglob("*.yaml")):
        found[f"{path.parent.name} {path.name}"] = path.read_text("utf-8")
    known = set(stored_schema()["properties"])
    return {name: text for name, text in found.items() if _is_config(yaml.safe_load(text), known)}


def _is_config(record, known) -> bool:
    return isinstance(record, dict) and is_run_config(record) and bool(known & set(record))


def test_the_schema_is_that_of_the_source():
    assert SCHEMA_FILE.read_text("utf-8") == reference.schema_text(), OUT_OF_DATE


def test_the_page_of_all_settings_is_that_of_the_source():
    assert PAGE.read_text("utf-8") == reference.settings_page(stored_schema()), OUT_OF_DATE


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(stored_schema())


def test_every_setting_has_a_meaning_and_a_default_that_fits():
    def walk(schema, path):
        for name, inner in schema.get("properties", {}).items():
            assert inner.get("description"), f"{path}.{name} has no description in its docstring"
            if "default" in inner:
                validator = jsonschema.Draft202012Validator(
                    {**inner, "$defs": stored_schema()["$defs"]}
                )
                validator.validate(inner["default"])
            walk(inner, f"{path}.{name}")

    walk(stored_schema(), "")
    for title, model in stored_schema()["$defs"].items():
        walk(model, title)


def test_a_starting_config_fits(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path)
    given = DataOptions(data=["log.csv"]).settings()
    check(yaml.safe_load(starting_config(check_data(given), given)))


@pytest.mark.parametrize("name", sorted(configs()))
def test_a_config_of_the_documentation_fits_and_can_be_read(check, name, tmp_path):
    text = configs()[name]
    check(yaml.safe_load(text))
    (tmp_path / "config.yaml").write_text(text)
    read_config(tmp_path / "config.yaml")


def test_complete_settings_fit(check):
    check(json.loads(json.dumps(complete_settings({}))))


@pytest.mark.parametrize("text", [text for text, _ in WRONG])
def test_what_cannot_be_read_does_not_fit(check, text):
    with pytest.raises(jsonschema.ValidationError):
        check(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        # Reading the file leaves these to the run and to the pipeline.
        "strategy: {model: {embeding_dim: 3}}",
        "strategy: {family: ease, model: {embedding_dim: 3}}",
        "strategy: {training: {epochs: 0}}",
        "strategy: {teacher: two_tower}",
        "strategy: {family: ensemble, model: {members: [als]}}",
        "pipeline: {tuner: {trails: 3}}",
        "pipeline: {infra_validator: {server: k8s}}",
    ],
)
def test_what_a_run_or_the_pipeline_refuses_does_not_fit(check, text):
    with pytest.raises(jsonschema.ValidationError):
        check(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "strategy: {model: {embedding_dim: 3}}",
        "strategy: {family: null, model: {hidden: [3]}}",
        "strategy: {family: ease, model: {l2: 3}}",
        "strategy: {family: ease, model: null}",
        "strategy: {family: ensemble, model: {members: [ials, {family: ease, model: {l2: 3}}]}}",
        "data: {source: log.csv, columns: null}",
        "pipeline: {name: films, data: {interactions: {path: x.csv}, max_split_drift: null}}",
    ],
)
def test_other_values_fit(check, text):
    check(yaml.safe_load(text))


def test_a_setting_of_the_page_has_its_row():
    page = PAGE.read_text("utf-8")
    assert "| `evaluation.k` | whole number ≥ 1 | `10` | length of the ranked lists. |" in page
    assert "| `split.protocol` | `item` or `user` or `time` or" in page
    assert "\n### The model `ease`\n" in page
