"""Studies of KerasTuner and TFX, read into the store; the projects are KerasTuner's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras_tuner
import pytest

from tests.tuning.study_toys import SPACE
from tfrec_meta.tuning import StrategySpace, StrategyTuner, StudyStore, read_keras_tuner, read_tfx

ROOT = Path(__file__).parents[3]
NAN = float("nan")


def space() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 0.01, 1.0, default=0.5, sampling="log")
    hp.Choice("kind", ["a", "b"])
    return hp


def project(folder, results, *, hp=None, objective=("val_loss", "min"), keep=True):
    """A KerasTuner project whose trials came to these results, in this order.

    Each result is steps with metrics ([(0, {"val_loss": 1.0})]), an error, or None for a trial that
    runs.
    """
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective(*objective),
        max_trials=len(results) + 1,
        hyperparameters=hp or space(),
        seed=7,
        max_consecutive_failed_trials=None,
    )
    oracle.verbose = 0
    oracle._set_project_dir(str(folder.parent), folder.name)
    for number, result in enumerate(results):
        trial = oracle.create_trial(f"tuner{number}")
        if result is None:
            continue
        if isinstance(result, str):
            trial.status, trial.message = "FAILED", result
        else:
            for step, metrics in result:
                oracle.update_trial(trial.trial_id, metrics, step)
            trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return folder


def losses(*values):
    return [(step, {"val_loss": value, "loss": value / 2}) for step, value in enumerate(values)]


def values_of(folder, trial_id):
    return json.loads((folder / f"trial_{trial_id}" / "trial.json").read_text())["hyperparameters"][
        "values"
    ]


# --- KerasTuner ------------------------------------------------------------------------------


def test_a_project_becomes_a_study_that_the_store_takes(tmp_path):
    folder = project(tmp_path / "shop", [losses(0.9, 0.5, 0.6), losses(0.8), "no memory", None])
    header, trials = read_keras_tuner(folder)
    store = StudyStore(tmp_path / "memory")
    store.append_study(header, trials)
    (study,) = store.studies()
    assert (study.objective, study.direction, study.source) == ("val_loss", "min", "keras_tuner")
    assert (study.seed, study.oracle, study.protocol) == (7, "unknown", "unknown")
    assert (study.budget, study.budget_unit) == (3, "epochs")  # the longest curve
    assert study.data == {"name": "shop", "fingerprint": "", "description": ""}
    assert [one["config"]["name"] for one in study.space] == ["rate", "kind"]
    assert study.space == space().get_config()["space"]
    first, second, third = study.trials  # the one that runs is not there
    assert (first["value"], first["status"]) == (0.5, "completed")
    assert first["curve"] == [0.9, 0.5, 0.6]
    assert (first["budget"], second["budget"]) == (3, 1)
    assert second["curve"] == []  # one step is the best, not the first
    assert (third["value"], third["status"], third["error"]) == (None, "failed", "no memory")
    for trial in study.trials:
        assert trial["values"] == values_of(folder, trial["trial_id"])


def test_a_score_that_is_no_number_is_a_failure(tmp_path):
    _, (good, bad) = read_keras_tuner(project(tmp_path / "p", [losses(0.5), losses(NAN)]))
    assert (good["status"], bad["status"], bad["value"]) == ("completed", "failed", None)


def test_values_of_several_executions_are_averaged(tmp_path):
    folder = project(tmp_path / "p", [[*losses(0.4, 0.1), *losses(0.6, 0.3)]])
    _, (trial,) = read_keras_tuner(folder)
    assert trial["curve"] == [0.5, pytest.approx(0.2)]
    assert trial["value"] == pytest.approx(0.2)


def test_read_again_or_longer_it_is_the_same_study(tmp_path):
    results = [losses(0.5), losses(0.6)]
    before, _ = read_keras_tuner(project(tmp_path / "one", results))
    again, trials = read_keras_tuner(project(tmp_path / "two", [*results, losses(0.4)]))
    other, _ = read_keras_tuner(project(tmp_path / "three", [losses(0.51), losses(0.6)]))
    assert before["study_id"] == again["study_id"] != other["study_id"]
    assert len(trials) == 3


def test_the_objective_is_asked_for_only_where_several_could_be_it(tmp_path):
    both = project(tmp_path / "p", [[(0, {"val_loss": 0.5, "val_error": 0.5})]])
    with pytest.raises(ValueError, match="say `objective`, one of: val_loss, val_error"):
        read_keras_tuner(both)
    header, _ = read_keras_tuner(both, objective="val_error")
    assert header["objective"] == "val_error"
    with pytest.raises(ValueError, match=r"`objective`='auc'.*val_loss, val_error"):
        read_keras_tuner(both, objective="auc")


def test_a_metric_that_is_to_be_high(tmp_path):
    results = [[(0, {"val_auc": 0.6, "val_loss": 1.0}), (1, {"val_auc": 0.7, "val_loss": 0.9})]]
    folder = project(tmp_path / "p", results, objective=("val_auc", "max"))
    header, (trial,) = read_keras_tuner(folder)
    assert (header["objective"], header["direction"], trial["value"]) == ("val_auc", "max", 0.7)


def test_without_a_budget_the_unit_is_a_trial_and_a_hyperbands_epochs_are_told(tmp_path):
    folder = project(tmp_path / "p", [losses(0.5)])
    header, (trial,) = read_keras_tuner(folder)
    assert (header["budget_unit"], header["budget"], trial["budget"]) == ("trial", 1, 1)
    header, (trial,) = read_keras_tuner(folder, epochs=12)
    assert (header["budget_unit"], header["budget"], trial["budget"]) == ("epochs", 12, 12)
    path = folder / "trial_0" / "trial.json"
    state = json.loads(path.read_text())
    state["hyperparameters"]["values"] |= {"tuner/epochs": 4, "tuner/trial_id": None}
    path.write_text(json.dumps(state))
    _, (trial,) = read_keras_tuner(folder, epochs=12)
    assert trial["budget"] == 4
    assert set(trial["values"]) == {"rate", "kind"}


def test_a_space_of_ours_is_recognised_and_no_other(tmp_path):
    ours = StrategySpace(("ials", "ease")).hyperparameters()
    for number, (hp, version) in enumerate([(ours, 1), (space(), 0)]):
        folder = project(tmp_path / str(number), [losses(0.5)], hp=hp)
        assert read_keras_tuner(folder)[0]["space_version"] == version


def test_a_study_of_our_tuner_keeps_what_our_files_tell(tmp_path):
    def evaluate(record, epochs, folder, report):
        if record["model"].get("embedding_dim", 128) > 128:
            raise MemoryError("too large")
        lines = [{"epoch": n, "val_ndcg@10": n / 10} for n in range(1, epochs + 1)]
        return {"val_ndcg@10": epochs / 10, "curve": lines}

    searched = StrategySpace(("ials",), {"ials/l2": 8.5})
    options = {"trials": 6, "epochs": 3, "oracle": "random", "progress": False}
    tuner = StrategyTuner(evaluate, searched, tmp_path / "s", about={"data": "d1"}, **options)
    tuner.search()
    header, trials = read_keras_tuner(tmp_path / "s")
    StudyStore(tmp_path / "memory").append_study(header, trials)
    assert (header["oracle"], header["budget"], header["space_version"]) == ("random", 3, 1)
    assert (header["objective"], header["direction"]) == ("val_ndcg@10", "max")
    assert header["data"]["fingerprint"] == "d1"
    wanted = tuner.trials()
    assert [t["trial_id"] for t in trials] == [t["trial_id"] for t in wanted]
    assert [t["error"] for t in trials] == [t["error"] for t in wanted]
    assert [t["strategy"] for t in trials] == [t["strategy"] for t in wanted]
    assert {t["status"] for t in trials} == {"completed", "failed"}
    for trial in trials:
        good = trial["status"] == "completed"
        assert trial["curve"] == ([0.1, 0.2, 0.3] if good else [])
        assert trial["value"] == (0.3 if good else None)
        assert trial["budget"] == 3


def test_files_that_were_cut_off_are_left_out_with_a_warning(tmp_path, caplog):
    folder = project(tmp_path / "p", [losses(0.5), losses(0.6), losses(0.7)])
    path = folder / "trial_1" / "trial.json"
    path.write_text(path.read_text()[:40])
    (folder / "trial_2" / "trial.json").write_text('{"status": "COMPLETED", "score": 0.1}')
    _, trials = read_keras_tuner(folder, objective="val_loss")
    assert [trial["trial_id"] for trial in trials] == ["0"]
    assert "1 trial file(s) are left out; the first: " in caplog.messages[0]
    assert "trial None is left out: `trial_id`=None" in caplog.messages[1]


def test_what_is_no_project_or_has_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no oracle\.json: it is no KerasTuner project"):
        read_keras_tuner(tmp_path)
    with pytest.raises(ValueError, match="no trial that ended"):
        read_keras_tuner(project(tmp_path / "running", [None]))
    with pytest.raises(ValueError, match="say `objective`"):
        read_keras_tuner(project(tmp_path / "failed", ["no memory"]))
    folder = project(tmp_path / "p", [losses(0.5)])
    oracle = json.loads((folder / "oracle.json").read_text())
    oracle["hyperparameters"]["space"] = []
    (folder / "oracle.json").write_text(json.dumps(oracle))
    with pytest.raises(ValueError, match="does not tell the space"):
        read_keras_tuner(folder)
    oracle["hyperparameters"]["space"] = [{"class_name": "Float"}]
    (folder / "oracle.json").write_text(json.dumps(oracle))
    with pytest.raises(ValueError, match=r"makes no sense: `space`="):
        read_keras_tuner(folder)
    for text, words in (("{", "not JSON"), ("[]", "not a JSON object")):
        (folder / "oracle.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            read_keras_tuner(folder)


# --- TFX -------------------------------------------------------------------------------------


def outputs(root, execution="7", *, trials=True, best=True, rows=None):
    """What TFX's Tuner writes, and our `trials.json`, as `pipeline/components/tuner.py` does."""
    node = root / "Tuner"
    values = [{"family": "ials", "ials/l2": 2.5}, {"family": "ease"}, {"family": "ials"}]
    outcomes = [
        {
            "trial_id": str(number),
            "values": one,
            "strategy": {"family": one["family"]},
            "epochs": 4,
            "error": error,
            "val_ndcg@10": value,
            "seconds": 1.5,
            **({"curve": [{"val_ndcg@10": value / 2}, {"val_ndcg@10": value}]} if value else {}),
        }
        for number, (one, value, error) in enumerate(
            zip(values, (0.2, 0.3, 0.0), (None, None, "it broke"), strict=True)
        )
    ]
    results = node / "tuner_results" / execution
    results.mkdir(parents=True)
    if trials:
        (results / "trials.json").write_text(json.dumps(outcomes))
    if rows is None:
        rows = [
            {"trial_id": one["trial_id"], "score": one["val_ndcg@10"], **one["values"]}
            for one in (outcomes[1], outcomes[0], outcomes[2])
        ]
    (results / "tuner_results.json").write_text(json.dumps(rows))
    if best:
        folder = node / "best_hyperparameters" / execution
        folder.mkdir(parents=True)
        text = json.dumps({"space": SPACE, "values": values[1]})
        (folder / "best_hyperparameters.txt").write_text(text)
    return node


def test_a_tuner_of_ours_becomes_a_study_that_the_store_takes(tmp_path):
    node = outputs(tmp_path)
    header, trials = read_tfx(node)
    assert (header, trials) != read_tfx(node / "tuner_results" / "7")  # named after the folder
    assert header["study_id"] == read_tfx(node / "tuner_results" / "7")[0]["study_id"]
    store = StudyStore(tmp_path / "memory")
    store.append_study(header, trials)
    (study,) = store.studies()
    assert (study.objective, study.direction, study.source) == ("val_ndcg@10", "max", "tfx")
    assert (study.budget, study.budget_unit, study.seed) == (4, "epochs", None)
    assert (study.space, study.space_version, study.data["name"]) == (SPACE, 1, "Tuner")
    assert [(t["value"], t["status"], t["error"]) for t in study.trials] == [
        (0.2, "completed", None),
        (0.3, "completed", None),
        (None, "failed", "it broke"),
    ]
    assert [t["curve"] for t in study.trials] == [[0.1, 0.2], [0.15, 0.3], []]
    assert study.trials[0]["values"] == {"family": "ials", "ials/l2": 2.5}
    assert study.trials[0]["seconds"] == 1.5


def test_tfxs_own_files_suffice_if_the_objective_is_said(tmp_path):
    node = outputs(tmp_path, trials=False)
    with pytest.raises(ValueError, match="does not tell what was searched for; say `objective`"):
        read_tfx(node)
    header, trials = read_tfx(node, objective="val_ndcg@10", epochs=6)
    assert (header["direction"], header["budget"]) == ("max", 6)
    assert [(t["trial_id"], t["value"]) for t in trials] == [("1", 0.3), ("0", 0.2), ("2", 0.0)]
    assert trials[1]["values"] == {"family": "ials", "ials/l2": 2.5}


def test_the_direction_is_that_of_the_order_or_is_asked_for(tmp_path):
    rows = [{"trial_id": "0", "score": 0.1}, {"trial_id": "1", "score": 0.2}]
    less = outputs(tmp_path / "less", trials=False, rows=rows)
    assert read_tfx(less, objective="val_rmse")[0]["direction"] == "min"
    equal = outputs(tmp_path / "equal", rows=rows[:1])
    with pytest.raises(ValueError, match="say `direction`, max or min"):
        read_tfx(equal)
    assert read_tfx(equal, direction="max")[0]["direction"] == "max"
    with pytest.raises(ValueError, match="`direction`='up'"):
        read_tfx(equal, direction="up")


def test_without_the_space_it_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"does not tell the space .*best_hyperparameters\.txt"):
        read_tfx(outputs(tmp_path, best=False))


def test_of_several_executions_one_has_to_be_named(tmp_path):
    node = outputs(tmp_path, "7")
    outputs(tmp_path, "12")
    with pytest.raises(ValueError, match=r"2 executions; say which: .*12, .*7"):
        read_tfx(node)
    assert len(read_tfx(node / "tuner_results" / "12")[1]) == 3


def test_what_is_no_tuner_or_has_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no trials of a TFX Tuner"):
        read_tfx(tmp_path)
    node = outputs(tmp_path)
    path = node / "tuner_results" / "7" / "trials.json"
    for text, words in (("{}", "not a JSON list"), ("[", "not JSON"), ("[]", "`objective`")):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_tfx(node)
    path.write_text(json.dumps([{"val_a": 1.0, "val_b": 2.0}]))
    with pytest.raises(ValueError, match="it has val_a, val_b"):
        read_tfx(node)
    with pytest.raises(ValueError, match="no trial that makes sense"):
        read_tfx(node, objective="val_a")


def test_reading_loads_neither_tensorflow_nor_keras_tuner(tmp_path):
    outputs(tmp_path)
    code = (
        "import sys; from tfrec_meta.tuning import read_tfx; read_tfx('Tuner')\n"
        "print(sorted({'tensorflow', 'keras_tuner'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
