"""Personal data in the command: what is listed, what is hidden, and pseudonyms."""

import contextlib
import hashlib
import hmac
import logging

import pytest

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.commands.server_options import ServerOptions

KEY = "0123456789abcdef" * 2
USERS = [f"u{k}@mail.example" for k in range(8)]
PHONE = "+44 20 7946 0"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The options of data whose ids and phone numbers are personal."""
    folder = tmp_path_factory.mktemp("shop")
    rows = [f"{user},i{(u + 3 * k) % 12},{k}" for u, user in enumerate(USERS) for k in range(4)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,time", *rows]) + "\n")
    table = [f"{user},{PHONE}{100 + u}" for u, user in enumerate(USERS)]
    (folder / "users.csv").write_text("\n".join(["user_id,mobile", *table]) + "\n")
    paths = [str(folder / name) for name in ("log.csv", "users.csv")]
    return ["--data", paths[0], "--users", paths[1], "--split", "user", "--family", "popularity"]


@pytest.fixture(scope="module")
def shop_run(shop, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "shop"
    assert cli.main(["train", "--run", str(run), *shop]) == 0
    return run


def test_train_lists_personal_columns_with_what_happens_to_them(shop_run, capsys, caplog):
    answer = run_json(capsys, "train", "--run", str(shop_run))
    assert answer["personal_columns"] == [
        {"column": "user_id", "looks_like": "e-mail addresses", "by": "values", "use": "left out"},
        {
            "column": "users.mobile",
            "looks_like": "phone numbers",
            "by": "values",
            "use": "left out",
        },
    ]
    assert cli.main(["train", "--run", str(shop_run)]) == 0
    shown = capsys.readouterr().out
    assert shown == (
        "columns that look personal:\n"
        "  user_id (e-mail addresses, by its values): left out of the model and its exports\n"
        "  users.mobile (phone numbers, by its values): left out of the model and its exports\n"
    )


def test_training_logs_names_of_columns_once_and_no_value(shop, tmp_path, caplog, capsys):
    with caplog.at_level(logging.WARNING):
        assert cli.main(["train", "--run", str(tmp_path / "run"), *shop]) == 0
    (line,) = [text for text in caplog.messages if "look personal" in text]
    assert "users.mobile (phone numbers, by its values)" in line
    shown = capsys.readouterr()
    everything = shown.out + shown.err + caplog.text
    assert not [one for one in (*USERS, PHONE) if one in everything]


def test_report_lists_them_and_shows_no_value(shop_run, capsys):
    assert cli.main(["evaluate", "--run", str(shop_run), "--baselines", "none"]) == 0
    assert cli.main(["report", "--run", str(shop_run)]) == 0
    page = (shop_run / "report.html").read_text()
    assert "users.mobile (phone numbers, by its values)" in page
    evaluation = (shop_run / "evaluation.json").read_text()
    shown = capsys.readouterr()
    everything = page + evaluation + shown.out + shown.err
    assert not [one for one in (*USERS, PHONE) if one in everything]


@pytest.fixture
def sent(monkeypatch):
    """The ids of users in requests; no request leaves the process."""
    found = []

    class Recorder(contextlib.nullcontext):
        def recommend(self, user, **_):
            found.extend([user] if user else [])  # a second request compares with no user
            return []

    monkeypatch.setattr(ServerOptions, "client", lambda options, model: Recorder(Recorder()))
    monkeypatch.setenv("SHOP_KEY", KEY)
    monkeypatch.delenv("TFREC_META_KEY", raising=False)
    return found


def test_recommend_sends_a_pseudonym_without_a_run(sent, capsys, monkeypatch):
    request = ["recommend", "--model", "shop", "--user", f" {USERS[3]} "]
    assert cli.main([*request, "--pseudonyms", "SHOP_KEY"]) == 0
    expected = hmac.new(KEY.encode(), USERS[3].encode(), hashlib.sha256).hexdigest()
    assert sent == [expected]
    assert cli.main([*request, "--pseudonyms"]) == 1
    assert "$TFREC_META_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("TFREC_META_KEY", KEY)
    assert cli.main([*request, "--pseudonyms"]) == 0
    assert sent == [expected] * 2


def test_pseudonyms_without_effect_are_an_error(sent, shop_run, capsys):
    assert cli.main(["recommend", "--model", "shop", "--pseudonyms", "SHOP_KEY"]) == 1
    assert "--pseudonyms has no effect without a --user" in capsys.readouterr().err
    request = ["recommend", "--run", str(shop_run), "--user", USERS[0]]
    assert cli.main([*request, "--pseudonyms", "SHOP_KEY"]) == 1
    assert f"--pseudonyms is a setting of {shop_run}" in capsys.readouterr().err
    assert sent == []


def test_every_command_of_a_run_with_pseudonyms_shows_no_raw_id(shop, sent, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert cli.main(["train", "--run", run, *shop, "--pseudonyms", "SHOP_KEY"]) == 0
    assert cli.main(["evaluate", "--run", run, "--baselines", "none", "--resamples", "9"]) == 0
    assert cli.main(["report", "--run", run, "--users", f"{USERS[1]},{USERS[2]}"]) == 0
    shown = capsys.readouterr()
    assert not [user for user in USERS if user in shown.out + shown.err]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if b"@mail.example" in path.read_bytes()]
    assert cli.main(["recommend", "--run", run, "--user", USERS[3]]) == 0
    assert sent == [hmac.new(KEY.encode(), USERS[3].encode(), hashlib.sha256).hexdigest()]
    assert "has no user" not in capsys.readouterr().err
