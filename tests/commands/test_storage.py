"""Commands on data in databases and on object stores."""

import json
import sqlite3

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.io.stores import RemotePath

ROWS = [(f"u{n % 12}", f"i{n % 7}", 1_700_000_000 + n) for n in range(120)]


@pytest.fixture
def shop(s3):
    """Options for a log and a table of items on an object store."""
    text = "user_id,item_id,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)
    (RemotePath(s3) / "logs/shop.csv").write(text.encode())
    (RemotePath(s3) / "items.csv").write(b"item_id,title\ni1,Tea\n")
    return ["--data", f"{s3}/logs/*.csv", "--items", f"{s3}/items.csv"]


def test_train_reads_from_an_object_store(shop, s3, tmp_path, capsys):
    run_json(capsys, "train", "--run", str(tmp_path / "first"), *shop, "--family", "popularity")
    settings = json.loads((tmp_path / "first" / "run.json").read_text())
    assert settings["data"]["source"] == [f"{s3}/logs/*.csv"]
    assert settings["data"]["items"] == f"{s3}/items.csv"


@pytest.mark.slow  # an export
def test_export_writes_to_an_object_store(shop, s3, tmp_path, capsys):
    run = ["--run", str(tmp_path / "first")]
    run_json(capsys, "train", *run, *shop, "--family", "popularity")
    answer = run_json(capsys, "export", *run, "--to", f"{s3}/models/shop")
    assert answer["export"] == f"{s3}/models/shop/1"
    assert (answer["model"], answer["version"]) == ("shop", 1)


def test_data_check_reads_from_an_object_store(s3, tmp_path, capsys):
    text = "user,item,when\n" + "".join(f"{u},{i},{t}\n" for u, i, t in ROWS)
    (RemotePath(s3) / "shop.csv").write(text.encode())
    answer = run_json(
        capsys, "data", "check", f"{s3}/shop.csv", "--to", str(tmp_path / "shop.yaml")
    )
    assert answer["events"] == 120
    assert f"{s3}/shop.csv" in (tmp_path / "shop.yaml").read_text()


def test_a_store_that_fails_ends_the_command_with_one_sentence(s3, tmp_path, capsys):
    words = ["--run", str(tmp_path / "first"), "--data", f"{s3}-of-others/log.csv"]
    assert cli.main(["train", *words]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "there is no bucket 'shop-of-others'; create it" in error
    assert cli.main(["train", *words[:3], "s3://me:hidden@shop/log.csv"]) == 1
    error = capsys.readouterr().err
    assert "set them in the environment" in error
    assert "hidden" not in error


@pytest.fixture
def database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("shop.db") as connection:
        connection.execute("CREATE TABLE orders (customer, product, day)")
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", ROWS)
    connection.close()
    return ["--data", "sqlite:///shop.db", "--columns", "user_id=customer,item_id=product,time=day"]


def test_train_reads_from_a_database(database, tmp_path, capsys):
    words = ["train", "--run", "first", *database, "--sql", "orders", "--family", "popularity"]
    run_json(capsys, *words)
    settings = json.loads((tmp_path / "first" / "run.json").read_text())
    assert settings["data"]["source"] == [f"sqlite:///{tmp_path}/shop.db"]
    assert settings["data"]["sql"] == "orders"
    assert run_json(capsys, "evaluate", "--run", "first", "--baselines", "none", "-k", "3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "sqlite:///shop.db"], "--data='sqlite:///"),
        (["--data", "log.csv", "--sql", "orders"], "--sql has no effect on"),
        (["--data", "mysql://ann:hidden@h/x", "--sql", "x"], "has a password in it; leave it out"),
        (
            ["--data", "sqlite:///shop.db", "--sql", "orders", "--delimiter", ";"],
            "--delimiter has no effect on database",
        ),
    ],
)
def test_settings_of_a_database_that_contradict_are_named(database, words, message, capsys):
    assert cli.main(["train", "--run", "first", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "hidden" not in error


def test_data_check_is_not_for_databases(database, capsys):
    assert cli.main(["data", "check", "sqlite:///shop.db", "--sql", "orders"]) == 1
    assert "is for files, and not for sqlite:///" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--run", "s3://shop/runs/first", "--data", "synthetic-40x20x300"],
        ["evaluate", "--run", "gs://shop/runs/first"],
        ["data", "check", "log.csv", "--to", "s3://shop/shop.yaml"],
    ],
)
def test_what_is_on_this_machine_only_is_no_url(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert "is a URL; use a path on this machine." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
