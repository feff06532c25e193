"""`--config` of the commands that use a trained run or a log."""

import json

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.commands.recommend import _known_events
from tfrec_meta.commands.server_options import ServerOptions
from tfrec_meta.export.config import ExportConfig
from tfrec_meta.workflows.configs.config_files import read_config
from tfrec_meta.workflows.runs import Run

GROUPS = """\
evaluation: {k: 3, baselines: [popularity], tune_baselines: false, resamples: 20}
export: {k: 2, max_k: 5}
pipeline: {name: films, tuner: {trials: 3}}
"""
RUN = ["--run", "runs/shop", "--config", "shop.yaml"]


@pytest.fixture
def config(shop):
    """The path of a config with all groups."""
    path = shop / "shop.yaml"
    path.write_text(path.read_text() + GROUPS)
    return path


def test_one_config_serves_train_evaluate_and_export(config, capsys, monkeypatch):
    assert run_json(capsys, "train", *RUN)["family"] == "ials"
    assert run_json(capsys, "train", *RUN)["seconds"] == 0  # the same run

    found = run_json(capsys, "evaluate", *RUN)
    assert found["k"] == 3
    assert list(found["evaluations"]) == ["ials", "popularity"]
    option = run_json(capsys, "evaluate", *RUN, "-k", "4", "--baselines", "none")
    assert option["k"] == 4
    assert list(option["evaluations"]) == ["ials"]

    assert _export(monkeypatch, *RUN) == ExportConfig(k=2, max_k=5)
    option = _export(monkeypatch, *RUN, "--max-k", "7", "--diversity")
    assert option == ExportConfig(k=2, max_k=7, diversity=True)

    for wrong, command, words in (
        ("k: 3", "evaluate", "`evaluation.k`=0; use 1 or more"),
        ("k: 2, max_k: 5", "export", "`export.k`=6, but `export.max_k`=5; raise `export.max_k`"),
        ("baselines: [popularity]", "evaluate", "`evaluation.baselines` has 'als'; use some of"),
    ):
        new = {"k: 3": "k: 0", "k: 2, max_k: 5": "k: 6, max_k: 5"}.get(wrong, "baselines: [als]")
        config.write_text(config.read_text().replace(wrong, new))
        assert cli.main([command, *RUN]) == 1
        assert f"shop.yaml: {words}" in capsys.readouterr().err
        config.write_text(config.read_text().replace(new, wrong))

    # An option is named by its flag, and a setting of the file by its key.
    assert cli.main(["export", *RUN, "-k", "9"]) == 1
    assert "shop.yaml: -k=9, but `export.max_k`=5" in capsys.readouterr().err

    config.write_text(config.read_text().replace("protocol: time", "protocol: item"))
    for command in ("evaluate", "export"):
        assert cli.main([command, *RUN]) == 1
        error = capsys.readouterr().err
        assert "runs/shop holds a run with split.protocol='time', not 'item'. Leave out" in error
    config.write_text(config.read_text().replace("protocol: item", "protocol: time"))

    # Other runs of one config have another seed and family.
    config.write_text(config.read_text().replace("seed: 42", "seed: 7").replace("ials", "ease"))
    assert run_json(capsys, "evaluate", *RUN)["k"] == 3


def _export(monkeypatch, *words):
    """Returns the options with which the command would export."""

    class Stopped(Exception):
        pass

    def stop(model, base, config, **options):
        raise Stopped(config)

    with monkeypatch.context() as patch:
        patch.setattr("tfrec_meta.workflows.export.export", stop)
        with pytest.raises(Stopped) as found:
            cli.main(["export", *words, "--debug"])
    return found.value.args[0]


def test_the_history_of_a_user_comes_from_the_data_of_the_config(shop):
    events = _known_events(None, "shop.yaml", None)
    history = events.history("u3")
    # Row n is of user n modulo 11 and item n modulo 17, and the last row of user 3 is row 190.
    assert history[-1] == "p3"
    assert set(history) == {f"p{n % 17}" for n in range(3, 200, 11)}
    assert events.history("nobody") == []


def test_recommend_takes_the_name_of_the_model_and_pseudonyms_from_the_config(shop, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", "k" * 40)
    with (shop / "shop.yaml").open("a") as file:
        file.write("evaluation: {k: 3}\n")
    plain = _known_events(None, "shop.yaml", None)
    replaced = _known_events(None, "shop.yaml", "SHOP_KEY")
    assert plain.user_id(" u3 ") == "u3"
    assert replaced.user_id("u3") in replaced.data.user_ids
    assert replaced.history("u3") == plain.history("u3")

    class Stopped(Exception):
        pass

    def stop(self, model):
        raise Stopped(model)

    monkeypatch.setattr(ServerOptions, "client", stop)
    with pytest.raises(Stopped, match="shop"):
        cli.main(["recommend", "--user", "u3", "--config", "shop.yaml", "--debug"])


def test_distill_takes_the_config_of_the_student(shop, capsys, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(self, teachers, compare, resamples):
        raise Stopped(self.strategy.family, self.settings["split"]["protocol"], resamples)

    monkeypatch.setattr(Run, "distill", stop)
    with (shop / "shop.yaml").open("a") as file:
        file.write("evaluation: {resamples: 30}\n")
    command = ["distill", "ease", *RUN, "--family", "two_tower", "--debug"]
    with pytest.raises(Stopped) as found:
        cli.main(command)
    assert found.value.args == ("two_tower", "time", 30)
    with pytest.raises(Stopped) as found:
        cli.main([*command, "--resamples", "10"])
    assert found.value.args[-1] == 10


def test_data_check_reads_the_log_as_its_config_says(config, capsys):
    again = run_json(capsys, "data", "check", "--config", "shop.yaml", "--to", "again.yaml")
    assert again["events"] == 200
    assert again["mapping"]["user_id"]["column"] == "client"
    assert read_config("again.yaml") == read_config("shop.yaml")
    other = ["data", "check", "--config", "shop.yaml", "--columns", "user_id=sku,item_id=client"]
    assert run_json(capsys, *other)["mapping"]["user_id"]["column"] == "sku"
    config.write_text(json.dumps({"data": {"source": "log.csv", "columns": {"user_id": "who"}}}))
    assert cli.main(["data", "check", "--config", "shop.yaml"]) == 1
    assert "has no column `who`" in capsys.readouterr().err
