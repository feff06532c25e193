"""KerasTuner projects, read as records of the store; KerasTuner itself writes the projects."""

import json

import keras_tuner
import pytest

from tfrec_meta.tuning import (
    SearchOptions,
    StrategySpace,
    StrategyTuner,
    StudyDescription,
    StudyStore,
    read_keras_tuner,
)

NAN = float("nan")


def space() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 0.01, 1.0, default=0.5, sampling="log")
    hp.Choice("kind", ["a", "b"])
    return hp


def project(folder, results, *, hp=None, objective=("val_loss", "min"), keep=True):
    """Writes a KerasTuner project with these results, in this order.

    A result is a list of steps with metrics ([(0, {"val_loss": 1.0})]), an error message, or None
    for a running trial.
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


def test_a_project_becomes_a_study_of_a_store(tmp_path):
    folder = project(tmp_path / "shop", [losses(0.9, 0.5, 0.6), losses(0.8), "no memory", None])
    header, trials = read_keras_tuner(folder)
    store = StudyStore(tmp_path / "store")
    store.append_study(header, trials)
    (study,) = store.studies()
    assert (study.objective, study.direction, study.source) == ("val_loss", "min", "keras_tuner")
    assert (study.seed, study.oracle, study.protocol) == (7, "unknown", "unknown")
    assert (study.budget, study.budget_unit) == (3, "epochs")  # the longest curve
    assert study.data == {"name": "shop", "fingerprint": "", "description": ""}
    assert [one["config"]["name"] for one in study.space] == ["rate", "kind"]
    assert study.space == space().get_config()["space"]
    first, second, third = study.trials  # without the running trial
    assert (first["value"], first["status"]) == (0.5, "completed")
    assert first["curve"] == [0.9, 0.5, 0.6]
    assert (first["budget"], second["budget"]) == (3, 1)
    assert second["curve"] == []  # a single step is the best epoch, not the first
    assert (third["value"], third["status"], third["error"]) == (None, "failed", "no memory")
    for trial in study.trials:
        assert trial["values"] == values_of(folder, trial["trial_id"])


def test_a_score_that_is_not_finite_is_a_failure(tmp_path):
    _, (good, bad) = read_keras_tuner(project(tmp_path / "p", [losses(0.5), losses(NAN)]))
    assert (good["status"], bad["status"], bad["value"]) == ("completed", "failed", None)


def test_values_of_several_executions_are_averaged(tmp_path):
    folder = project(tmp_path / "p", [[*losses(0.4, 0.1), *losses(0.6, 0.3)]])
    _, (trial,) = read_keras_tuner(folder)
    assert trial["curve"] == [0.5, pytest.approx(0.2)]
    assert trial["value"] == pytest.approx(0.2)


def test_a_continued_project_has_the_same_study_id(tmp_path):
    results = [losses(0.5), losses(0.6)]
    before, _ = read_keras_tuner(project(tmp_path / "one", results))
    again, trials = read_keras_tuner(project(tmp_path / "two", [*results, losses(0.4)]))
    other, _ = read_keras_tuner(project(tmp_path / "three", [losses(0.51), losses(0.6)]))
    assert before["study_id"] == again["study_id"] != other["study_id"]
    assert len(trials) == 3


def test_an_ambiguous_objective_must_be_set(tmp_path):
    both = project(tmp_path / "p", [[(0, {"val_loss": 0.5, "val_error": 0.5})]])
    with pytest.raises(ValueError, match="set `objective` to one of: val_loss, val_error"):
        read_keras_tuner(both)
    header, _ = read_keras_tuner(both, objective="val_error")
    assert header["objective"] == "val_error"
    with pytest.raises(ValueError, match=r"`objective`='auc'.*val_loss, val_error"):
        read_keras_tuner(both, objective="auc")


def test_a_maximised_metric_is_read(tmp_path):
    results = [[(0, {"val_auc": 0.6, "val_loss": 1.0}), (1, {"val_auc": 0.7, "val_loss": 0.9})]]
    folder = project(tmp_path / "p", results, objective=("val_auc", "max"))
    header, (trial,) = read_keras_tuner(folder)
    assert (header["objective"], header["direction"], trial["value"]) == ("val_auc", "max", 0.7)


def test_the_budget_is_a_trial_or_the_recorded_epochs(tmp_path):
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


def test_only_a_strategy_space_has_a_space_version(tmp_path):
    ours = StrategySpace(("ials", "ease")).hyperparameters()
    for number, (hp, version) in enumerate([(ours, 1), (space(), 0)]):
        folder = project(tmp_path / str(number), [losses(0.5)], hp=hp)
        assert read_keras_tuner(folder)[0]["space_version"] == version


def test_a_project_of_strategy_tuner_keeps_its_outcomes(tmp_path):
    def evaluate(record, epochs, folder, report):
        if record["model"].get("embedding_dim", 128) > 128:
            raise MemoryError("too large")
        lines = [{"epoch": n, "val_ndcg@10": n / 10} for n in range(1, epochs + 1)]
        return {"val_ndcg@10": epochs / 10, "curve": lines}

    searched = StrategySpace(("ials",), {"ials/l2": 8.5})
    options = SearchOptions(trials=6, epochs=3, oracle="random", progress=False)
    described = StudyDescription(identity={"data": "d1"})
    tuner = StrategyTuner(evaluate, searched, tmp_path / "s", options, described)
    tuner.search()
    header, trials = read_keras_tuner(tmp_path / "s")
    StudyStore(tmp_path / "store").append_study(header, trials)
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


def test_truncated_files_are_left_out_with_a_warning(tmp_path, caplog):
    folder = project(tmp_path / "p", [losses(0.5), losses(0.6), losses(0.7)])
    path = folder / "trial_1" / "trial.json"
    path.write_text(path.read_text()[:40])
    (folder / "trial_2" / "trial.json").write_text('{"status": "COMPLETED", "score": 0.1}')
    _, trials = read_keras_tuner(folder, objective="val_loss")
    assert [trial["trial_id"] for trial in trials] == ["0"]
    assert "1 trial file(s) are left out; the first: " in caplog.messages[0]
    assert "trial None is left out: `trial_id`=None" in caplog.messages[1]


def test_folders_without_a_usable_project_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no oracle\.json, so it is not a KerasTuner project"):
        read_keras_tuner(tmp_path)
    with pytest.raises(ValueError, match="no trial that ended"):
        read_keras_tuner(project(tmp_path / "running", [None]))
    with pytest.raises(ValueError, match="set `objective`"):
        read_keras_tuner(project(tmp_path / "failed", ["no memory"]))
    folder = project(tmp_path / "p", [losses(0.5)])
    oracle = json.loads((folder / "oracle.json").read_text())
    oracle["hyperparameters"]["space"] = []
    (folder / "oracle.json").write_text(json.dumps(oracle))
    with pytest.raises(ValueError, match="does not contain the search space"):
        read_keras_tuner(folder)
    oracle["hyperparameters"]["space"] = [{"class_name": "Float"}]
    (folder / "oracle.json").write_text(json.dumps(oracle))
    with pytest.raises(ValueError, match=r"invalid study: `space`="):
        read_keras_tuner(folder)
    for text, words in (("{", "not JSON"), ("[]", "not a JSON object")):
        (folder / "oracle.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            read_keras_tuner(folder)


def test_a_project_of_version_0_1_gets_the_present_name_of_its_objective(tmp_path):
    results = [[(0, {"val_ndcg_at_10": 0.25})], [(0, {"val_ndcg_at_10": 0.5})]]
    folder = project(tmp_path / "old", results, objective=("val_ndcg_at_10", "max"))
    study = {"objective": "val_ndcg_at_10", "oracle": "random", "epochs": 2, "data": "d1"}
    (folder / "study.json").write_text(json.dumps(study))
    outcome = {
        "values": values_of(folder, "0"),
        "epochs": 2,
        "error": None,
        "val_ndcg_at_10": 0.25,
        "curve": [{"val_ndcg@10": 0.125}, {"val_ndcg@10": 0.25}],
    }
    (folder / "trial_0" / "outcome.json").write_text(json.dumps(outcome))
    header, trials = read_keras_tuner(folder)
    assert (header["objective"], header["direction"]) == ("val_ndcg@10", "max")
    assert [trial["value"] for trial in trials] == [0.25, 0.5]
    assert trials[0]["curve"] == [0.125, 0.25]
