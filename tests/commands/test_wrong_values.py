"""A wrong value of any option of any command is reported with the option's flag."""

import json

import click
import pytest

from tests.data.survey.log import write_log
from tfrec_meta.commands import base
from tfrec_meta.commands import main as cli
from tfrec_meta.commands.summaries import GROUPS, SECTIONS
from tfrec_meta.serving import LocalServer

DATA = ["--data", "synthetic-40x20x300"]
# Options whose value can't be wrong: switches, folders and files to write to, and free text.
FREE = {
    "help",
    "json",
    "debug",
    "overwrite",
    "final",
    "sample_data",
    "no_comparison",
    "diversity",
    "recommend_history",
    "tune_baselines",
    "insecure",
    "no_memory",
    "yes",
    "run",
    "runs",
    "to",
    "cache",
    "folder",
    "store",
    "data_folder",
    "pseudonyms",
    "data",
    "source",
    "file",
    "files",
    "titles",
    "user",
    "history",
    "exclude",
    "description",
    "name",
    "fingerprint",
    "protocol",
    "study_id",
    "ids",
}
# Command -> wrong values by parameter, and the flag that the error names if it is not in the words.
_DATA = {
    "sql": ["--sql", "orders"],
    "columns": ["--columns", "user_id"],
    "users": ["--users", "nowhere.csv"],
    "items": ["--items", "nowhere.csv"],
    "delimiter": ["--delimiter", "::"],
    "encoding": ["--encoding", "klingon"],
    "decimal": ["--decimal", ";"],
    "quote": ["--quote", "<<"],
    "lists": ["--lists", "genres"],
    "types": ["--types", "zip"],
    "time_unit": ["--time-unit", "weeks"],
    "time_format": ["--time-format", "%Q"],
    "max_bad_share": ["--max-bad-share", "2"],
    "bad_rows": ["--bad-rows", "repair"],
    "duplicates": ["--duplicates", "some"],
    "value_range": ["--value-range", "5", "1"],
    "time_range": ["--time-range", "soon", "later"],
    "min_user_events": ["--min-user-events", "0"],
    "min_item_events": ["--min-item-events", "0"],
    "sessions": ["--sessions", "0m"],
    "split": ["--split", "alphabet"],
    "train": ["--train", "1.5"],
    "validation": ["--validation", "1.5"],
}
_FEEDBACK = {
    "event_type": ["--event-type", "kind", "--target", "buy"],
    "event_weights": ["--event-weights", "view=0"],
    "weight": ["--weight", "minutes"],
    "positive": ["--positive", "nan"],
    "below": ["--below", "hide"],
    "target": ["--target", ","],
}
_STRATEGY = {
    "family": ["--family", "oracle"],
    "epochs": ["--epochs", "0"],
    "seed": ["--seed", "-1"],
    "strategy": ["--strategy", "nowhere.json"],
}
_CONFIG = {"config": ["--config", "nowhere.yaml"]}
_SERVER = {
    "server": ["--server", "nowhere"],
    "timeout": ["--timeout", "0"],
    "tls": ["--tls", "nowhere.pem"],
    "k": ["-k", "0"],
    "model": ["--model", "nobody"],
}
_TITLES = {"title_column": ["--title-column", "nowhere"]}
WRONG = {
    "init": {"recipe": ["bakery"], "seed": ["--seed", "-1"]},
    "fetch": {"names": ["1k"]},
    "train": {**_CONFIG, **_DATA, **_FEEDBACK, **_STRATEGY},
    "tune": {
        **_CONFIG,
        **_DATA,
        **_FEEDBACK,
        "epochs": ["--epochs", "0"],
        "seed": ["--seed", "-1"],
        "strategy": ["--strategy", "nowhere.json"],
        "trials": ["--trials", "0"],
        "families": ["--families", "oracle"],
        "oracle": ["--oracle", "delphi"],
        "fixed": ["--fixed", "encoder"],
        "trial_seconds": ["--trial-seconds", "0"],
        "similarity": ["--similarity", "colour"],
    },
    "distill": {
        **_CONFIG,
        **_DATA,
        **_FEEDBACK,
        **_STRATEGY,
        "teachers": ["nobody"],
        "resamples": ["--resamples", "many"],
    },
    "evaluate": {
        **_CONFIG,
        "k": ["-k", "0"],
        "baselines": ["--baselines", "nobody"],
        "resamples": ["--resamples", "many"],
    },
    "compare": {"k": ["-k", "0"], "resamples": ["--resamples", "0"]},
    "report": {"k": ["-k", "0"], "users": ["--users", "nobody"]},
    "cold-start": {
        **_CONFIG,
        "shots": ["--shots", "one"],
        "k": ["-k", "0"],
        "metric": ["--metric", "coverage"],
        "baselines": ["--baselines", "nobody"],
        "later": ["--later", "-1"],
        "resamples": ["--resamples", "many"],
    },
    "export": {
        **_CONFIG,
        "version": ["--version", "0"],
        "k": ["-k", "0"],
        "max_k": ["--max-k", "0"],
        "filters": ["--filters", "colour"],
    },
    "serve": {
        "base": ["nowhere"],
        "host": ["--host", "0.0.0.0"],
        "port": ["--port", "99999"],
        "threads": ["--threads", "0"],
        "certificate": ["--certificate", "nowhere.pem"],
        "key": ["--key", "nowhere.pem"],
        "grace": ["--grace", "-1"],
        "poll_seconds": ["--poll-seconds", "-1"],
    },
    "recommend": {**_CONFIG, **_SERVER, **_TITLES, "filters": ["--filter", "genre"]},
    "adapt": {**_SERVER, **_TITLES, "items": ["--items", "i3=much"]},
    "doctor": {},
    "completion": {"shell": ["csh"]},
    "data check": {**_CONFIG, **_DATA, "rows": ["--rows", "0"]},
    "data schema": {},
    "studies list": {},
    "studies show": {"top": ["--top", "0"]},
    "studies export": {},
    "studies import": {
        "objective": [],
        "direction": ["--direction", "up"],
        "epochs": ["--epochs", "0"],
        "space_version": ["--space-version", "new"],
    },
    "studies prune": {"older_than": ["--older-than", "long"], "keep_best": ["--keep-best", "0"]},
    "studies compact": {},
}
CASES = [(command, name) for command, values in WRONG.items() for name in values]


def find(command: str) -> click.Command:
    """The click command of a command's words."""
    name, _, second = command.partition(" ")
    found = base.module_command(name)
    return found.find(second) if second else found


@pytest.fixture(scope="module")
def server(base):
    with LocalServer(base) as server:
        yield server


@pytest.fixture(scope="module")
def newcomers(tmp_path_factory):
    """A run with new test users."""
    folder = tmp_path_factory.mktemp("runs") / "newcomers"
    train = ["train", "--run", str(folder), "--split", "cold-users", "--family", "popularity"]
    assert cli.main([*train, *DATA]) == 0
    return folder


@pytest.fixture
def words(request, tmp_path, monkeypatch):
    """Returns the words that a command needs in addition to one wrong value."""
    monkeypatch.chdir(tmp_path)

    def words(command: str, name: str) -> list[str]:
        def of(fixture: str) -> str:
            return str(request.getfixturevalue(fixture))

        if command in ("evaluate", "report", "export"):
            return ["--run", of("run")]
        if command == "compare":
            return [of("run"), of("newcomers")]
        if command == "cold-start":
            few = ["--shots", "1", "--later", "2"] if name == "k" else []
            return ["--run", of("newcomers"), *few]
        if command in ("recommend", "adapt") and name != "server":
            call = ["--server", request.getfixturevalue("server").address]
            call += [] if name == "model" else ["--model", "first"]
            return call + (["--items", "i3"] if command == "adapt" and name != "items" else [])
        if command == "serve" and name != "base":
            return [of("base")]
        if command == "train":
            return [*DATA, "--family", "popularity"] if name != "family" else DATA
        if command == "distill":
            return DATA if name == "teachers" else ["popularity", *DATA]
        if command == "tune":
            return [DATA[1]]
        if command == "init" and name != "recipe":
            return ["shop"]
        if command == "data check":
            return [write_log(tmp_path).name]
        if command == "studies show":
            return ["a"]
        if command == "studies import":
            (tmp_path / "7").mkdir()
            rows = [{"trial_id": "0", "score": 0.5, "family": "ials"}]
            (tmp_path / "7" / "tuner_results.json").write_text(json.dumps(rows))
            space = {"space": [{"class_name": "Fixed", "config": {"name": "a", "value": 1}}]}
            (tmp_path / "7" / "best_hyperparameters.txt").write_text(json.dumps(space))
            return ["7"]
        return []

    return words


def test_every_option_of_every_command_is_covered():
    commands = [name for section in SECTIONS.values() for name in section if name not in GROUPS]
    commands += [f"{group} {name}" for group, inner in GROUPS.items() for name in inner]
    assert list(WRONG) == commands
    for command, values in WRONG.items():
        names = {param.name for param in find(command).params} - FREE
        assert names == set(values), command


@pytest.mark.parametrize(("command", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_a_wrong_value_is_reported_with_its_flag(command, name, words, capsys):
    arguments = [*command.split(), *WRONG[command][name], *words(command, name)]
    capsys.readouterr()
    assert cli.main(arguments) in (1, 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert find(command).flags()[name] in error, error
