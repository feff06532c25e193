"""`tfrec-meta data check`, and the config that it writes for `train` and `tune`."""

import json
import subprocess
import sys

import pytest

from tests.commands.calls import run_json
from tests.data.survey.log import write_log
from tfrec_meta.commands import main as cli
from tfrec_meta.workflows.run_settings import complete_settings


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with `log.csv`, the small log."""
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path)
    return tmp_path


def test_check_prints_what_the_log_holds(folder, capsys):
    assert cli.main(["data", "check", "log.csv"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "  customer  text  7.7%     4\n",
        "  user_id     customer  by its name\n",
        "  time        when      by its name; dates\n",
        "  value       -         no column looks like it\n",
        "  event_type  action    by its name; view 8, purchase 2\n",
        "rows: 13, of which 3 are dropped\n",
        "  1 unreadable time\n",
        "row 12 (line 13), column `time`: 'soon' is not a time",
        "events: 10 of 4 users with 4 items\n",
        "time: 2026-01-01 00:00:00 to 2026-01-10 00:00:00 UTC\n",
        "repeats: 12.5% of 8 pairs of user and item; suggests --recommend-history\n",
        "new in the last 20 % of the events: 50.0% of 2 users, 50.0% of 2 items\n",
        "split: suggests --split time\n",
    ):
        assert line in shown
    assert not (folder / "shop.yaml").exists()


def test_check_prints_one_json_object(folder, capsys):
    found = run_json(capsys, "data", "check", "log.csv")
    assert (found["rows"], found["events"], found["config"]) == (13, 10, None)
    assert found["mapping"]["user_id"]["column"] == "customer"
    assert found["newcomers"]["new_users"] == 1


def test_an_existing_config_is_kept(folder, capsys):
    command = ["data", "check", "log.csv", "--to", "shop.yaml"]
    assert cli.main(command) == 0
    assert "next: tfrec-meta train --run runs/shop --config shop.yaml" in capsys.readouterr().out
    (folder / "shop.yaml").write_text("mine")
    assert cli.main(command) == 1
    assert capsys.readouterr().err == "error: shop.yaml exists; --overwrite replaces it.\n"
    assert (folder / "shop.yaml").read_text() == "mine"
    assert cli.main([*command, "--overwrite"]) == 0
    assert (folder / "shop.yaml").read_text() != "mine"


def test_a_log_without_ids_ends_with_status_1(folder, capsys):
    write_log(folder, "alpha,beta", "1.5,x\n2.5,y\n")
    assert cli.main(["data", "check", "log.csv", "--to", "shop.yaml"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: no column looks like user_id or item_id; name it with")
    assert "  beta    text    0.0%     2" in captured.out
    assert not (folder / "shop.yaml").exists()


def write_german_log(folder, header="Kundennummer;Artikelnummer;Ereignis;Preis;Zeitpunkt;E-Mail"):
    rows = (
        f"{1000 + n % 13};A{n % 17};{('Ansicht', 'Warenkorb', 'Kauf')[n % 3]};{n},5{n % 10};"
        f"{14 + n % 14}.09.2026 10:00;kunde{n % 13}@shop.example\n"
        for n in range(120)
    )
    write_log(folder, header, "".join(rows))


def test_a_log_of_another_program_and_language_is_recognized(folder, capsys):
    write_german_log(folder)
    assert cli.main(["data", "check", "log.csv", "--to", "shop.yaml"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "format: --delimiter ';' --decimal ,\n",
        "  user_id     Kundennummer   by its name\n",
        "  item_id     Artikelnummer  by its name\n",
        "  event_type  Ereignis       by its name; Ansicht 40, Kauf 40, Warenkorb 40\n",
        "next: tfrec-meta train --run runs/shop --config shop.yaml\n",
    ):
        assert line in shown
    config = (folder / "shop.yaml").read_text()
    for line in ("decimal: ','", "delimiter: ;", "time_format: '%d.%m.%Y %H:%M'"):
        assert line in config.replace("delimiter: ';'", "delimiter: ;")


def test_an_unsure_mapping_is_to_be_checked_first(folder, capsys):
    write_german_log(folder, "alpha;beta;Ereignis;Preis;Zeitpunkt;E-Mail")
    assert cli.main(["data", "check", "log.csv", "--to", "shop.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "  item_id     E-Mail" not in shown
    assert "\nnext: check the mapping in shop.yaml first; then tfrec-meta train" in shown


def test_users_and_items_that_say_the_same_are_a_warning(folder, capsys):
    write_log(folder, "user,item", "".join(f"u{n % 12},p{n % 12}\n" for n in range(36)))
    assert cli.main(["data", "check", "log.csv", "--to", "shop.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "warning: nearly each user has one item of their own" in shown
    assert "next: check the mapping in shop.yaml first" in shown


def test_a_table_of_items_is_read_and_matched(folder, capsys):
    write_german_log(folder)
    table = "Artikelnummer;Bezeichnung\n" + "".join(f"A{n};Käse {n}\n" for n in range(3, 20))
    (folder / "artikel.csv").write_text(table, encoding="latin1")
    command = ["data", "check", "log.csv", "--items", "artikel.csv"]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert "artikel.csv, row 1 (line 2)" in captured.err
    assert "--encoding" in captured.err
    (folder / "artikel.csv").write_text(table, encoding="utf8")
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    assert "artikel.csv: 17 rows, with 14 of the 17 items\n" in shown
    assert "--columns items.title=Bezeichnung names the titles" in shown
    assert cli.main([*command, "--columns", "items.title=Bezeichnung"]) == 0
    assert "no column `title`" not in capsys.readouterr().out


def test_no_config_is_written_if_nearly_all_rows_are_invalid(folder, capsys):
    write_log(folder, "user,item,price", 'a,p,"1,25"\n' * 19 + "a,q,3\n")
    command = ["data", "check", "log.csv", "--columns", "value=price", "--to", "shop.yaml"]
    assert cli.main(command) == 1
    captured = capsys.readouterr()
    assert "error: 19 of 20 rows are dropped: 19 unreadable value" in captured.err
    assert "--decimal , reads numbers such as 12,34" in captured.err
    assert "next:" not in captured.out
    assert not (folder / "shop.yaml").exists()


def test_control_characters_of_a_file_do_not_reach_the_terminal(folder, capsys):
    write_log(folder, "user,item,a\x1b[2Jb", "u,p,\x1b[2J\nv,q,x\n")
    assert cli.main(["data", "check", "log.csv"]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["nowhere.csv"], "nowhere.csv does not exist"),
        (["movielens-100k"], "movielens-100k has known columns"),
        (["log.csv", "--rows", "0"], "--rows=0"),
        (["log.csv", "--columns", "user_id=nobody"], "has no column `nobody`"),
        (["log.csv", "--to", "log.csv/x"], "log.csv"),
        (["log.csv", "--max-bad-share", "0.5"], "--max-bad-share has no effect without --bad-rows"),
    ],
)
def test_wrong_values_are_errors_in_one_line(folder, capsys, words, error):
    assert cli.main(["data", "check", *words]) in (1, 2)
    assert error in capsys.readouterr().err


def test_train_takes_the_config_and_options_win(shop, capsys):
    answer = run_json(capsys, "train", "--run", "runs/shop", "--config", "shop.yaml")
    assert answer["family"] == "ials"
    settings = json.loads((shop / "runs" / "shop" / "run.json").read_text())
    assert settings["data"]["source"] == [str(shop / "log.csv")]
    assert settings["data"]["columns"] == {"user_id": "client", "item_id": "sku", "time": "ts"}
    assert settings["split"]["protocol"] == "time"
    again = ["train", "--run", "runs/shop", "--config", "shop.yaml"]
    assert cli.main(again) == 0  # the same settings continue the run
    assert cli.main([*again, "--split", "item"]) == 1
    assert "split.protocol='time', not 'item'" in capsys.readouterr().err
    other = ["--run", "runs/other", "--config", "shop.yaml", "--split", "item", "--seed", "3"]
    assert run_json(capsys, "train", *other, "--family", "popularity")["family"] == "popularity"
    settings = json.loads((shop / "runs" / "other" / "run.json").read_text())
    assert (settings["split"]["protocol"], settings["seed"]) == ("item", 3)


def test_train_names_the_key_of_a_wrong_config(shop, capsys):
    command = ["train", "--run", "runs/wrong", "--config", "shop.yaml"]
    text = (shop / "shop.yaml").read_text()
    for old, new, error in (
        ("seed: 42", "sead: 42", "shop.yaml: `sead` is not a setting"),
        ("seed: 42", "seed: 42\nseed: 43", "shop.yaml has two values for the key 'seed'"),
        ("user_id: client", "user_id: cliente", "has no column `cliente`"),
        ("family: ials", "family: ials\n  model: {l2: -1}", "shop.yaml: "),
    ):
        (shop / "shop.yaml").write_text(text.replace(old, new))
        assert cli.main(command) == 1
        assert error in capsys.readouterr().err
    assert cli.main([*command[:3], "--config", "none.yaml"]) == 1
    assert "--config='none.yaml' does not exist" in capsys.readouterr().err
    assert not (shop / "runs").exists()


def test_tune_takes_the_config(shop, capsys, monkeypatch):
    from tfrec_meta.workflows import tune as workflow

    class Stopped(Exception):
        pass

    def stop(split, trials, *, strategy, seed, **options):
        raise Stopped(split.description, strategy.family, seed, len(split.data))

    monkeypatch.setattr(workflow, "tune", stop)
    with pytest.raises(Stopped) as found:
        cli.main(["tune", "--config", "shop.yaml", "--seed", "5", "--debug"])
    assert found.value.args[1:] == ("ials", 5, 200)
    assert "time" in found.value.args[0]


def test_tune_refuses_a_config_for_a_run(run, shop, capsys):
    assert cli.main(["tune", str(run), "--config", "shop.yaml"]) == 1
    assert "has its own data and split. Leave out --config" in capsys.readouterr().err


def test_the_config_holds_settings_of_a_run(shop):
    from tfrec_meta.workflows.configs.config_files import read_config

    settings = complete_settings(read_config("shop.yaml"))
    assert settings["strategy"]["family"] == "ials"
    assert not settings["recommend_history"]


def test_the_schema_is_printed_for_editors_without_tensorflow(capsys):
    code = (
        "import sys; from tfrec_meta.commands.main import main; status = main(['data', 'schema']); "
        "sys.exit(status or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed["properties"]["data"]["properties"]["source"]
    assert run_json(capsys, "data", "schema") == printed
