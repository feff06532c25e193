"""`tfrec-meta studies`: its output for people and for programs, and its effect on the store."""

import builtins
import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.tuning.store_samples import SPACE, failed, study, trial
from tfrec_meta.commands import main as cli
from tfrec_meta.commands import studies
from tfrec_meta.data.protocols import ValidationProtocol
from tfrec_meta.tuning.studies.store import StudyStore

COMMANDS = ("list", "show", "export", "import", "prune", "compact")


@pytest.fixture
def store(tmp_path, monkeypatch) -> StudyStore:
    """Two studies: one of four trials, one of which failed, and one of another objective."""
    folder = tmp_path / "memory"
    monkeypatch.setenv("TFREC_META_STUDIES", str(folder))
    monkeypatch.chdir(tmp_path)
    store = StudyStore(folder)
    trials = [trial(str(number), "aaaa1111", value=number / 10) for number in (1, 3, 2)]
    trials[1] |= {"suggested_by": "surrogate", "expected": {"mean": 0.25, "std": 0.05}}
    trials[1]["values"] = {"family": "ease", "ials/l2": 3}
    store.append_study(study("aaaa1111"), [*trials, failed("9", "aaaa1111")])
    rmse = {
        "objective": "val_rmse",
        "direction": "min",
        "data": study()["data"] | {"name": "films"},
    }
    values = {"family": "ials", "ials/l2": "large"}  # a space that differs
    other = trial("0", "bbbb2222", value=0.9, values=values)
    store.append_study(study("bbbb2222", **rmse), [other])
    return store


def run(capsys, *arguments: str) -> str:
    """Returns the text that a command prints."""
    capsys.readouterr()
    assert cli.main(["studies", *arguments]) == 0
    return capsys.readouterr().out


def run_json(capsys, *arguments: str) -> dict:
    return json.loads(run(capsys, *arguments, "--json"))


def error_of(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(["studies", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def ids(store: StudyStore) -> dict[str, list[str]]:
    return {one.study_id: [t["trial_id"] for t in one.trials] for one in store.studies()}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    assert cli.main(["studies", command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"examples:\n  tfrec-meta studies {command}" in shown
    assert "--store FOLDER" in shown
    assert "--json" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["forget"],
        ["show"],
        ["show", "a", "--top", "0"],
        ["prune", "--older-than", "long"],
        ["prune", "--older-than", "90"],
        ["prune", "--keep-best", "-1"],
        ["import", "x", "--direction", "up"],
    ],
)
def test_wrong_usage_ends_with_status_2(arguments, capsys):
    assert cli.main(["studies", *arguments]) == 2
    assert "Usage: tfrec-meta studies" in capsys.readouterr().err


def test_no_command_loads_tensorflow(store, tmp_path):
    code = (
        "import sys\n"
        "from tfrec_meta.commands.main import main\n"
        "for line in (['list'], ['show', 'a'], ['export', 'a.csv'], ['import', 'memory'],\n"
        "             ['prune', 'b', '--yes'], ['compact']):\n"
        "    assert main(['studies', *line]) == 0\n"
        "assert not {'tensorflow', 'tf_keras', 'keras_tuner'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)


# --- list and show ---------------------------------------------------------------------------


def test_list_prints_one_line_per_study(store, capsys):
    head, *lines = run(capsys, "list").splitlines()
    assert head.split() == [
        "study",
        "created",
        "data",
        "objective",
        "oracle",
        "trials",
        "failed",
        "best",
    ]
    assert [line.split() for line in lines] == [
        ["aaaa1111", "2026-01-31", "toy", "val_ndcg@10", "bayesian", "4", "1", "0.3000"],
        ["bbbb2222", "2026-01-31", "films", "val_rmse", "bayesian", "1", "0", "0.9000"],
    ]
    answer = run_json(capsys, "list")
    assert answer["store"] == str(store.folder)
    first = answer["studies"][0]
    assert (first["study_id"], first["best_trial"], first["best_value"]) == ("aaaa1111", "3", 0.3)
    assert (first["trials"], first["failed"]) == (4, 1)


def test_list_shortens_ids_to_where_they_differ(tmp_path, capsys):
    folder = tmp_path / "other"
    for name in ("0123456789ab", "0123456789cd"):
        StudyStore(folder).append_study(study(name))
    lines = run(capsys, "list", "--store", str(folder)).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["0123456789a", "0123456789c"]
    assert lines[1].split()[-1] == "-"  # no trial, no best


def test_an_empty_store_is_reported(tmp_path, capsys):
    folder = str(tmp_path / "nothing")
    assert run(capsys, "list", "--store", folder) == f"no studies in {folder}.\n"
    assert run_json(capsys, "list", "--store", folder) == {"store": folder, "studies": []}
    error = error_of(capsys, "show", "a", "--store", folder)
    assert "no study 'a'; use the id of a study: none" in error


def test_show_prints_the_best_trials_first(store, capsys):
    store.append_study(study("cccc3333"))
    shown = run(capsys, "show", "aa", "--top", "2").splitlines()
    assert "objective   val_ndcg@10, max, by random" in shown
    assert "space       2 hyperparameters, version 1" in shown
    assert "trials      3 completed, 1 failed" in shown
    assert "comparable  1 study" in shown
    table = shown[shown.index("") + 1 :]
    assert table[0].split()[:4] == ["trial", "value", "status", "epochs"]
    assert table[1].split() == [
        "3",
        "0.3000",
        "completed",
        "2",
        "1.5",
        "surrogate",
        "0.2500",
        "±",
        "0.0500",
    ]
    assert table[2].split() == ["2", "0.2000", "completed", "2", "1.5", "default"]
    assert table[3:] == [
        "and 2 more (--top)",
        "",
        "best trial, 3:",
        '  family = "ease"',
        "  ials/l2 = 3",
    ]
    answer = run_json(capsys, "show", "aa")
    assert answer["comparable"] == ["cccc3333"]
    assert answer["trials"] == list(store.study("aaaa1111").trials)
    assert answer["space"] == SPACE


def test_an_unknown_or_ambiguous_id_is_an_error(store, capsys):
    error = error_of(capsys, "show", "x")
    assert "no study 'x'; use the id of a study: aaaa1111, bbbb2222" in error
    store.append_study(study("aaaa2222"))
    assert "2 studies start with 'aaaa'" in error_of(capsys, "show", "aaaa")


# --- export and import -----------------------------------------------------------------------


def test_an_exported_file_is_imported_unchanged(store, capsys):
    shown = run(capsys, "export", "out/studies.json")
    assert shown == "exported 2 studies with 5 trials: out/studies.json\n"
    answer = run_json(capsys, "import", "out/studies.json", "--store", "copy")
    assert [one["new"] for one in answer["studies"]] == [4, 1]
    assert StudyStore("copy").studies() == store.studies()
    size = Path("copy/studies.jsonl").stat().st_size
    again = run_json(capsys, "import", "out/studies.json", "--store", "copy")
    assert [one["new"] for one in again["studies"]] == [0, 0]
    assert Path("copy/studies.jsonl").stat().st_size == size


def test_importing_another_store_writes_only_new_trials(store, capsys):
    assert "4 trials, 4 of them new" in run(capsys, "import", "memory", "--store", "copy")
    store.append_trial(trial("5", "aaaa1111"))
    shown = run(capsys, "import", "memory", "--store", "copy")
    assert "aaaa1111  toy: 5 trials, 1 of them new" in shown
    assert "next: tfrec-meta studies list --store copy" in shown
    assert StudyStore("copy").studies()[0].study_id == "bbbb2222"  # the other was written since


def test_export_writes_only_the_given_studies(store, capsys):
    answer = run_json(capsys, "export", "one.json", "bb", "bbbb2222")
    assert answer == {"file": "one.json", "studies": 1, "trials": 1}
    (one,) = json.loads(Path("one.json").read_text())["studies"]
    assert one == {**store.study("bb").header(), "trials": [dict(store.study("bb").trials[0])]}


def test_parquet_has_one_row_per_trial_and_one_column_per_hyperparameter(store, capsys):
    run(capsys, "export", "trials.parquet")
    rows = parquet.read_table("trials.parquet").to_pylist()
    assert [row["trial_id"] for row in rows] == ["1", "3", "2", "9", "0"]
    assert [row["value"] for row in rows] == [0.1, 0.3, 0.2, None, 0.9]
    assert rows[1]["data"] == "toy"
    assert rows[1]["curve"] == [0.125, 0.25]
    assert rows[1]["values/family"] == "ease"
    assert (rows[1]["expected_mean"], rows[1]["expected_std"]) == (0.25, 0.05)
    assert rows[0]["expected_mean"] is None
    assert rows[3]["error"] == "it broke"
    # A number in one study and a text in the other: JSON.
    assert [row["values/ials/l2"] for row in rows] == ["2.5", "3", "2.5", "2.5", '"large"']
    assert sorted(path.name for path in Path().iterdir()) == ["memory", "trials.parquet"]


def test_csv_has_the_same_columns_with_curves_as_json(store, capsys):
    run(capsys, "export", "trials.parquet", "aa")
    run(capsys, "export", "trials.csv", "aa")
    with open("trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = parquet.read_table("trials.parquet")
    assert list(rows[0]) == table.column_names
    assert rows[0]["curve"] == "[0.125, 0.25]"
    assert [row["values/ials/l2"] for row in rows] == ["2.5", "3", "2.5", "2.5"]
    assert rows[3]["value"] == ""


def test_export_refuses_unknown_formats_and_empty_stores(store, capsys):
    assert "FILE='trials.xlsx'; use a name that ends in one of .json" in error_of(
        capsys, "export", "trials.xlsx"
    )
    error = error_of(capsys, "export", "x.json", "--store", "nothing")
    assert "there is nothing to export" in error
    assert [path.name for path in Path().iterdir()] == ["memory"]


def keras_project(folder: Path) -> None:
    """Writes a small KerasTuner project; the tests of the import read real ones."""
    trial_folder = folder / "trial_0"
    trial_folder.mkdir(parents=True)
    state = {
        "hyperparameters": {"space": SPACE},
        "seed": 3,
        "start_order": ["0"],
        "end_order": ["0"],
    }
    (folder / "oracle.json").write_text(json.dumps(state))
    metric = {"direction": "min", "observations": [{"value": [0.5], "step": 0}]}
    done = {
        "trial_id": "0",
        "hyperparameters": {"space": SPACE, "values": {"family": "ials", "ials/l2": 2.5}},
        "metrics": {"metrics": {"val_loss": metric, "val_error": metric}},
        "score": 0.5,
        "status": "COMPLETED",
        "message": None,
    }
    (trial_folder / "trial.json").write_text(json.dumps(done))


def test_a_kerastuner_project_is_imported_with_given_facts(store, capsys):
    keras_project(Path("project"))
    assert "set --objective to one of: val_loss, val_error" in error_of(capsys, "import", "project")
    facts = ["--objective", "val_loss", "--epochs", "6", "--name", "shop", "--fingerprint", "f7"]
    facts += ["--protocol", "time", "--space-version", "4"]
    (answer,) = run_json(capsys, "import", "project", *facts)["studies"]
    found = store.study(answer["study_id"])
    assert (found.objective, found.budget, found.protocol) == ("val_loss", 6, "time")
    assert (found.data["name"], found.data["fingerprint"]) == ("shop", "f7")
    assert (found.space_version, found.source) == (4, "keras_tuner")


def test_the_output_of_a_tfx_tuner_is_imported(store, capsys):
    folder = Path("7")
    folder.mkdir()
    rows = [{"trial_id": "0", "score": 0.5, "family": "ials"}]
    (folder / "tuner_results.json").write_text(json.dumps(rows))
    assert "does not contain the search space" in error_of(capsys, "import", "7")
    (folder / "best_hyperparameters.txt").write_text(json.dumps({"space": SPACE}))
    assert "set --objective" in error_of(capsys, "import", "7")
    facts = ["--objective", "val_auc", "--direction", "max"]
    (answer,) = run_json(capsys, "import", "7", *facts)["studies"]
    assert store.study(answer["study_id"]).source == "tfx"


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "is not a JSON file of"),
        ("[]", "is not a JSON file of"),
        ('{"studies": {"a": 1}}', "is not a JSON file of"),
        ('{"studies": [{"kind": "study"}]}', "is not a JSON file of"),
        ('{"studies": [{"kind": "study", "trials": []}]}', "a study without `study_id`"),
        (json.dumps({"studies": [{**study(), "trials": [1]}]}), "1 is not an object"),
        (json.dumps({"studies": [{**study(), "trials": [trial(value="x")]}]}), "`value`='x'"),
        (json.dumps({"studies": [{**study(), "trials": [trial("0", "b")]}]}), "in study 'one'"),
        (json.dumps({"studies": [{**study(schema=3), "trials": []}]}), "`schema`=3"),
    ],
)
def test_a_file_that_is_not_an_export_is_refused_completely(store, capsys, text, words):
    good = {**study("good"), "trials": []}
    if text.startswith('{"studies": [{"kind"') or '"space"' in text:
        text = json.dumps({"studies": [good, *json.loads(text)["studies"]]})
    Path("in.json").write_text(text)
    assert words in error_of(capsys, "import", "in.json")
    assert list(ids(store)) == ["aaaa1111", "bbbb2222"]


def test_import_refuses_missing_and_empty_folders(store, capsys):
    assert "nowhere does not exist" in error_of(capsys, "import", "nowhere")
    Path("empty").mkdir()
    assert "empty holds no trials of a TFX Tuner" in error_of(capsys, "import", "empty")


# --- prune and compact -----------------------------------------------------------------------


def test_prune_removes_the_given_studies(store, capsys):
    shown = run(capsys, "prune", "aa", "--yes")
    assert shown.startswith("removed 1 study with 4 trials.\nnext: tfrec-meta studies compact")
    assert ids(store) == {"bbbb2222": ["0"]}


def test_prune_keeps_the_best_trials(store, capsys):
    assert run_json(capsys, "prune", "--keep-best", "2", "--yes") == {"studies": 0, "trials": 2}
    assert ids(store) == {"aaaa1111": ["3", "2"], "bbbb2222": ["0"]}
    assert run(capsys, "prune", "--keep-best", "2", "--yes") == "nothing to remove.\n"


def test_prune_keeps_the_smallest_values_of_an_error_metric(store, capsys):
    for number, value in (("1", 0.8), ("2", 1.1)):
        store.append_trial(trial(number, "bbbb2222", value=value))
    shown = run(capsys, "prune", "bb", "--keep-best", "1", "--yes")
    assert shown.startswith("removed 2 trials of 1 study.")
    assert ids(store)["bbbb2222"] == ["1"]


def test_prune_removes_only_old_studies(store, capsys):
    now = datetime.now(UTC)
    for name, days in (("old", 9), ("new", 5)):
        ended = (now - timedelta(days=days)).isoformat()
        created = (now - timedelta(days=10)).isoformat()
        store.append_study(study(name, created=created), [trial("0", name, ended=ended)])
    store.remove("aaaa1111")
    store.remove("bbbb2222")
    assert run(capsys, "prune", "--older-than", "10d", "--yes") == "nothing to remove.\n"
    assert run_json(capsys, "prune", "--older-than", "1w", "--yes") == {"studies": 1, "trials": 1}
    assert list(ids(store)) == ["new"]
    assert run_json(capsys, "prune", "--older-than", "119h", "--yes")["studies"] == 1


def test_prune_removes_nothing_without_consent(store, capsys, monkeypatch):
    before = ids(store)
    assert "Give the studies" in error_of(capsys, "prune", "--yes")
    assert "remove 1 study with 4 trials; --yes removes it" in error_of(capsys, "prune", "aa")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    questions = []
    for answer, remaining in (("", before), ("n", before), ("y", {"bbbb2222": ["0"]})):
        monkeypatch.setattr(builtins, "input", lambda text, a=answer: questions.append(text) or a)
        shown = run(capsys, "prune", "aa")
        assert shown.startswith("removed" if answer == "y" else "nothing was removed.")
        assert ids(store) == remaining
    assert questions == ["Remove 1 study with 4 trials? [y/N] "] * 3


def test_compact_reports_the_freed_space(store, capsys):
    before = store.path.stat().st_size
    run(capsys, "prune", "aa", "--yes")
    answer = run_json(capsys, "compact")
    assert answer["lines"] == 6  # the header, four trials and the removal
    assert answer["before"] > before > answer["after"] == store.path.stat().st_size
    assert "0 lines removed" in run(capsys, "compact")
    assert run_json(capsys, "compact", "--store", "nothing")["lines"] == 0


def test_the_protocols_of_import_are_those_of_the_library():
    assert set(studies.VALIDATION_PROTOCOLS) == set(ValidationProtocol)
