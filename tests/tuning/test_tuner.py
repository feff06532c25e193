"""The tuner: oracles by name, budgets, failed trials, and continuing after a kill."""

import json
import math
import signal
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.processes import Script
from tfrec_meta.evaluation import Objective
from tfrec_meta.io import files
from tfrec_meta.tuning import (
    ORACLES,
    AllTrialsFailed,
    SearchOptions,
    StrategySpace,
    StrategyTuner,
    StudyDescription,
    TrialStopped,
    trial_report,
    tuner,
)
from tfrec_meta.tuning.oracles import durable
from tfrec_meta.tuning.studies import identity

# A small grid: 2 * 5 dimensions of ease and ials.
SPACE = StrategySpace(
    ("low_rank_ease", "ials"),
    {
        "low_rank_ease/l2": 500.0,
        "ials/l2": 8.5,
        "ials/unseen_weight": 0.3,
        "ials/frequency_exponent": 0.0,
        "ials/iterations": 15,
    },
)
ORACLE_NAMES = tuple(ORACLES)


def score(record, epochs, folder, report):
    """Has its maximum at 128 dimensions of ials; more epochs are better."""
    base = 0.6 if record["family"] == "ials" else 0.5
    distance = abs(record["model"]["embedding_dim"] - 128)
    return {Objective.NDCG: base - distance / 1000 + epochs / 10_000}


class Kill(BaseException):
    """Replaces SIGKILL: the package does not catch it."""


def die(*_):
    raise Kill


@pytest.fixture(autouse=True)
def no_flushes(monkeypatch):
    """Files are not flushed to the disk, because these kills are exceptions or SIGKILL."""
    monkeypatch.setattr(files, "sync", lambda path: None)


def build(folder, evaluate=score, space=SPACE, study=None, **options):
    options = SearchOptions(**{"trials": 4, "epochs": 4, "progress": False, **options})
    return StrategyTuner(evaluate, space, folder, options, study or StudyDescription())


def strategies(study):
    return [(trial["strategy"], trial["epochs"]) for trial in study.trials()]


@pytest.mark.parametrize("oracle", ORACLE_NAMES)
def test_the_first_trial_is_the_default_and_the_best_is_found(tmp_path, oracle):
    study = build(tmp_path, oracle=oracle, trials=6)
    study.search()
    trials = study.trials()
    assert len(trials) == 6
    assert trials[0]["strategy"] == SPACE.strategy_record({})
    best = max(trials, key=lambda trial: trial[Objective.NDCG])
    assert study.best_strategy_record() == best["strategy"]
    assert study.oracle.get_best_trials(1)[0].score == best[Objective.NDCG]
    assert isinstance(study.oracle, ORACLES[oracle])


def test_an_error_is_minimised(tmp_path):
    def error(record, epochs, folder, report):
        if record["family"] == "ials":
            raise RuntimeError("no such model")
        return {"val_rmse": 1.0 + abs(record["model"]["embedding_dim"] - 128) / 1000}

    study = build(tmp_path, error, oracle="random", trials=8, study=StudyDescription("val_rmse"))
    study.search()
    trials = study.trials()
    best = min((trial for trial in trials if not trial["error"]), key=lambda t: t["val_rmse"])
    assert study.best_strategy_record() == best["strategy"]
    assert tuner.best_outcome(trials, "val_rmse")["val_rmse"] == best["val_rmse"]
    assert any(trial["error"] for trial in trials)


@pytest.mark.parametrize("oracle", ORACLE_NAMES)
def test_the_same_seed_gives_the_same_trials(tmp_path, oracle):
    found = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        study = build(tmp_path / name, oracle=oracle, seed=seed)
        study.search()
        found.append(strategies(study))
    assert found[0] == found[1]
    if oracle != "grid":
        assert found[0] != found[2]


def test_hyperband_gives_most_trials_few_epochs(tmp_path):
    study = build(tmp_path, oracle="hyperband", trials=7, epochs=9)
    study.search()
    budgets = [trial["epochs"] for trial in study.trials()]
    assert budgets[0] == 1  # 9 / 3 / 3
    assert set(budgets) <= {1, 3, 9}
    assert len(budgets) == 7


def test_a_grid_search_ends_with_its_space(tmp_path):
    space = StrategySpace(("low_rank_ease",), {"low_rank_ease/l2": 500.0})
    study = build(tmp_path, oracle="grid", trials=50, space=space)
    study.search()
    dims = [trial["strategy"]["model"]["embedding_dim"] for trial in study.trials()]
    assert dims[0] == 64
    assert sorted(dims) == [16, 32, 64, 128, 256]


def test_the_results_of_a_trial_are_saved(tmp_path):
    study = build(tmp_path, lambda *_: {Objective.NDCG: 0.25, "curve": [1, 2]}, trials=1)
    study.search()
    (trial,) = study.trials()
    assert trial["curve"] == [1, 2]
    assert trial["seconds"] > 0
    assert trial["error"] is None
    assert trial["values"] == SPACE.hyperparameters().values
    assert trial["epochs"] == 4
    assert trial["seed"] == 42
    assert trial["status"] == "completed"
    ended = datetime.fromisoformat(trial["ended"])
    assert abs(datetime.now(UTC) - ended) < timedelta(minutes=5)
    assert json.loads(json.dumps(study.trials())) == study.trials()


# Failed trials.


@pytest.mark.parametrize("oracle", ORACLE_NAMES)
def test_a_trial_that_raises_or_returns_nan_counts_as_bad_and_the_search_goes_on(tmp_path, oracle):
    calls = []

    def fails(*given):
        calls.append(given)
        if len(calls) in (1, 2, 3, 5):  # KerasTuner itself would end at the third in a row
            raise RuntimeError("out of memory")
        return {Objective.NDCG: float("nan")} if len(calls) == 4 else score(*given)

    study = build(tmp_path, fails, oracle=oracle, trials=7)
    study.search()
    trials = study.trials()
    assert [trial[Objective.NDCG] is None for trial in trials] == [True] * 5 + [False] * 2
    assert trials[0]["error"] == "RuntimeError: out of memory"
    assert trials[3]["error"] == f"its {Objective.NDCG} is nan"
    assert [trial["status"] for trial in trials] == ["failed"] * 5 + ["completed"] * 2
    assert study.oracle.get_best_trials(1)[0].trial_id in {t["trial_id"] for t in trials[5:]}
    assert study.oracle.get_trial(trials[0]["trial_id"]).message == trials[0]["error"]


def test_a_search_without_a_successful_trial_raises_with_the_cause(tmp_path):
    def fails(*_):
        raise RuntimeError("out of memory")

    with pytest.raises(AllTrialsFailed, match=f"All 2 trials failed.*out of memory.*{tmp_path}"):
        build(tmp_path, fails, trials=2).search()


# Slow and hopeless trials.


def reporting(values, seconds=0.0):
    """Reports the values, one per epoch of this length, and returns the last."""

    def evaluate(record, epochs, folder, report):
        for epoch, value in enumerate(values, 1):
            time.sleep(seconds)
            report(epoch, value)
        return {Objective.NDCG: values[-1]}

    return evaluate


def by_turns(*evaluators):
    turns = iter(evaluators)
    return lambda *given: next(turns)(*given)


@pytest.mark.parametrize("oracle", ORACLE_NAMES)
def test_a_slow_trial_ends_after_its_epoch_and_counts_as_the_worst(tmp_path, oracle):
    slow = reporting([0.7, 0.8, 0.9], seconds=0.2)
    evaluate = by_turns(slow, reporting([0.1, 0.2]), slow)
    study = build(tmp_path, evaluate, oracle=oracle, trials=3, trial_seconds=0.3)
    study.search()
    late, good, _ = study.trials()
    assert [trial["status"] for trial in study.trials()] == ["timed_out", "completed", "timed_out"]
    assert late["reports"] == [0.7, 0.8]
    assert late[Objective.NDCG] is None
    assert 0.3 < late["seconds"] < 0.6
    assert "`trial_seconds`=0.3" in late["error"]
    assert good["reports"] == [0.1, 0.2]
    assert study.best_strategy_record() == good["strategy"]


def test_a_trial_without_reports_is_checked_at_its_end(tmp_path):
    def silent(*_):
        time.sleep(0.2)
        return {Objective.NDCG: 0.9}

    study = build(tmp_path, by_turns(silent, score), trials=2, trial_seconds=0.1)
    study.search()
    assert [trial["status"] for trial in study.trials()] == ["timed_out", "completed"]


def test_by_default_a_trial_may_take_ten_minutes_or_ten_times_the_longest(tmp_path, monkeypatch):
    clock = SimpleNamespace(seconds=0.0, perf_counter=lambda: clock.seconds)
    monkeypatch.setattr(trial_report, "time", clock)

    def taking(seconds):
        def evaluate(record, epochs, folder, report):
            clock.seconds += seconds
            report(1, 0.5)
            return {Objective.NDCG: 0.5}

        return evaluate

    # Limits: none, 700, 700 (no trial that completed was longer), 6,900, 6,900
    turns = by_turns(*map(taking, (70.0, 701.0, 690.0, 6899.0, 69000.0)))
    study = build(tmp_path, turns, oracle="random", trials=5)
    study.search()
    kinds = [trial["status"] for trial in study.trials()]
    assert kinds == ["completed", "timed_out", "completed", "completed", "timed_out"]
    assert "took 701.0 s, but `trial_seconds`=700" in study.trials()[1]["error"]
    for name, limit, last in (("usual", None, "timed_out"), ("none", math.inf, "completed")):
        turns = by_turns(taking(59.0), taking(601.0))  # a limit of 600, which is more than 590
        study = build(tmp_path / name, turns, oracle="random", trials=2, trial_seconds=limit)
        study.search()
        assert [trial["status"] for trial in study.trials()] == ["completed", last]


def test_the_usual_limit_needs_no_oracle_that_knows_all_trials(tmp_path):
    """As in a worker, whose oracle only asks its chief."""
    study = build(tmp_path, trials=1)
    study.search()
    study.oracle = None
    assert study._trial_seconds() == 600.0


def stop_by(study, rule):
    """Sets the rule by which the oracle stops trials; returns the calls."""
    calls = []

    def should_stop(trial_id, curve):
        calls.append((trial_id, curve))
        return rule(curve)

    study.oracle.should_stop = should_stop
    return calls


@pytest.mark.parametrize(
    ("objective", "values", "best"),
    [("val_ndcg@10", [0.3, 0.1, 0.2, 0.9], 0.3), ("val_rmse", [1.5, 1.25, 1.75, 0.1], 1.25)],
)
def test_a_stopped_trial_has_its_best_value_so_far(tmp_path, objective, values, best):
    def evaluate(record, epochs, folder, report):
        for epoch, value in enumerate(values, 1):
            report(epoch, value)
        return {objective: values[-1]}

    study = build(tmp_path, evaluate, trials=1, study=StudyDescription(objective))
    calls = stop_by(study, lambda curve: len(curve) == 3)
    study.search()
    (trial,) = study.trials()
    assert trial["status"] == "stopped"
    assert trial["error"] is None
    assert trial[objective] == best
    assert trial["reports"] == values[:3]
    assert calls == [(trial["trial_id"], tuple(values[:n])) for n in (1, 2, 3)]
    assert study.oracle.get_best_trials(1)[0].score == best
    assert study.best_strategy_record() == trial["strategy"]


def test_a_trial_stopped_before_any_value_failed(tmp_path):
    def give_up(*_):
        raise TrialStopped("no use")

    study = build(tmp_path, by_turns(give_up, score), trials=2)
    study.search()
    assert [trial["status"] for trial in study.trials()] == ["failed", "completed"]
    assert study.trials()[0]["error"] == "no use, before any value was reported"


def test_timed_out_and_stopped_trials_are_neither_lost_nor_repeated(tmp_path):
    slow = reporting([0.5, 0.6], seconds=0.2)
    study = build(tmp_path, by_turns(slow, reporting([0.1, 0.1]), die), trial_seconds=0.3)
    stop_by(study, lambda curve: curve == (0.1, 0.1))
    with pytest.raises(Kill):
        study.search()
    before = study.trials()
    assert [trial["status"] for trial in before] == ["timed_out", "stopped"]
    calls = []

    def counting(*given):
        calls.append(given)
        return score(*given)

    again = build(tmp_path, counting)  # a changed limit does not change ended trials
    again.search()
    assert len(calls) == 2
    assert again.trials()[:2] == before
    assert [trial["status"] for trial in again.trials()[2:]] == ["completed"] * 2


def test_a_search_whose_trials_all_time_out_raises(tmp_path):
    with pytest.raises(AllTrialsFailed, match=r"All 2 trials failed.*`trial_seconds`=0\.1"):
        build(tmp_path, reporting([1.0], seconds=0.2), trials=2, trial_seconds=0.1).search()


def test_lines_show_how_a_trial_ended(tmp_path, capsys):
    slow = reporting([0.5], seconds=0.2)
    evaluate = by_turns(slow, reporting([0.1]))
    study = build(tmp_path, evaluate, trials=2, trial_seconds=0.1, progress=True)
    stop_by(study, lambda curve: True)
    study.search()
    first, second, *_ = capsys.readouterr().err.strip().splitlines()
    assert "(timed out: The trial took 0.2 s" in first
    assert second.endswith("s (stopped early)")


# Output for TFX and for users.


def test_methods_that_tfx_calls_work(tmp_path, capsys):
    study = build(tmp_path)
    study.search_space_summary()
    study.search()
    study.results_summary()
    assert "ials/embedding_dim" in capsys.readouterr().out
    config = study.get_best_hyperparameters()[0].get_config()
    assert SPACE.strategy_record(json.loads(json.dumps(config))["values"])
    assert len(study.oracle.get_best_trials(study.oracle.max_trials)) == 4


def test_progress_is_one_line_per_trial_without_a_terminal(tmp_path, capsys):
    build(tmp_path, progress=True, trials=2).search()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert lines[2].startswith("best of 2 trials: ")
    assert lines[0].startswith(f"trial 1/2: {Objective.NDCG} 0.4364, best 0.4364, 0.0 s")


# Continuing.


TRIALS = 3  # of each killed search


def killed_at_write(folder, number, monkeypatch, evaluate, oracle):
    """Runs a search until just before this write; returns whether it got there."""
    write, count = tuner.write_text, 0

    def counting(path, text):
        nonlocal count
        count += 1
        if count == number:
            raise Kill
        write(path, text)

    with monkeypatch.context() as patch:
        for module in (tuner, durable, identity):
            patch.setattr(module, "write_text", counting)
        try:
            build(folder, evaluate, oracle=oracle, trials=TRIALS).search()
        except Kill:
            return True
    return False


@pytest.mark.parametrize("oracle", ORACLE_NAMES)
def test_a_search_killed_at_any_write_continues_without_loss_or_repetition(
    tmp_path, oracle, monkeypatch
):
    whole = build(tmp_path / "whole", oracle=oracle, trials=TRIALS)
    whole.search()
    number = 0
    while True:
        number += 1
        folder, calls = tmp_path / str(number), []

        def evaluate(*given, calls=calls):
            calls.append(given)
            return score(*given)

        if not killed_at_write(folder, number, monkeypatch, evaluate, oracle):
            break
        study = build(folder, evaluate, oracle=oracle, trials=TRIALS)
        known = len(list(folder.glob("trial_*/outcome.json")))
        before = len(calls)
        study.search()
        assert strategies(study) == strategies(whole), number
        assert len(calls) == before + TRIALS - known, number
        assert sorted(study.oracle.end_order) == sorted(whole.oracle.end_order)
    assert number > 20  # each write of a search was the last one once


def test_an_ended_search_is_only_read(tmp_path):
    build(tmp_path).search()
    again = build(tmp_path, evaluate=None)
    again.search()
    assert len(again.trials()) == 4


def test_more_trials_extend_a_search(tmp_path):
    build(tmp_path, trials=2).search()
    study = build(tmp_path, trials=5)
    study.search()
    assert len(study.trials()) == 5
    longer = build(tmp_path / "longer", trials=5)
    longer.search()
    assert strategies(study) == strategies(longer)


def test_another_study_in_the_folder_is_refused_with_the_differences(tmp_path):
    this = StudyDescription(identity={"data": "this"})
    build(tmp_path, study=this).search()
    for options, message in (
        ({"oracle": "random"}, r"another oracle \('meta_bayesian', now 'random'\)\."),
        ({"study": StudyDescription(identity={"data": "that"})}, r"another data\."),
        (
            {"study": StudyDescription("val_auc", identity={"data": "this"})},
            r"another objective \('val_ndcg@10', now 'val_auc'\)\.",
        ),
        ({"space": StrategySpace()}, r"another space \(added: two_tower/.*; removed: .*ials/"),
        ({"epochs": 5, "seed": 7}, r"another epochs \(4, now 5\), another seed \(42, now 7\)\."),
    ):
        with pytest.raises(ValueError, match=message):
            build(tmp_path, **{"study": this, **options})


@pytest.mark.slow
def test_a_search_continues_after_sigkill(tmp_path):
    """SIGKILL in another process, which cannot clean up."""
    script = f"""
        import os, signal
        from tests.tuning import test_tuner as t
        calls = []

        def kill(*given):
            calls.append(given)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return t.score(*given)

        t.build({str(tmp_path / "study")!r}, kill).search()
    """
    process = Script(script)
    _, err = process.communicate(120)
    assert process.returncode == -signal.SIGKILL, err
    calls = []

    def counting(*given):
        calls.append(given)
        return score(*given)

    study = build(tmp_path / "study", counting)
    assert len(study.trials()) == 2
    study.search()
    whole = build(tmp_path / "whole")
    whole.search()
    assert len(calls) == 2
    assert strategies(study) == strategies(whole)


# The surrogate suggests after the default and four more trials.

WIDE = StrategySpace(("ials",), {"ials/iterations": 15})


def smooth(record, epochs, folder, report):
    """Has its maximum at 64 dimensions and a small penalty."""
    model = record["model"]
    value = 0.5 - abs(model["embedding_dim"] - 64) / 1000 - abs(model["l2"] - 5.0) / 500
    value -= abs(model["unseen_weight"] - 0.2) / 10
    for epoch in range(1, epochs + 1):
        report(epoch, value * epoch / epochs)
    return {Objective.NDCG: value}


@pytest.mark.parametrize(
    ("oracle", "epochs", "killed"),
    [("meta_bayesian", 4, [(6, 13), (12,)]), ("meta_hyperband", 9, [(6, 13)])],
)
def test_suggestions_of_a_surrogate_do_not_depend_on_kills(tmp_path, oracle, epochs, killed):
    options = {"oracle": oracle, "space": WIDE, "trials": 15, "epochs": epochs}
    whole = build(tmp_path / "whole", smooth, **options)
    whole.search()
    assert len(whole.trials()) == 15
    for kills in killed:
        folder, calls = tmp_path / str(kills), []

        def dying(*given, calls=calls, kills=kills):
            calls.append(given)
            if len(calls) in kills:
                raise Kill
            return smooth(*given)

        for _ in kills:
            with pytest.raises(Kill):
                build(folder, dying, **options).search()
        study = build(folder, dying, **options)
        study.search()
        assert strategies(study) == strategies(whole)
        sources = [(t["suggested_by"], t["expected"]) for t in study.trials()]
        assert sources == [(t["suggested_by"], t["expected"]) for t in whole.trials()]


def test_a_trial_records_its_source_and_prediction(tmp_path):
    study = build(tmp_path, smooth, space=WIDE, trials=7)
    study.search()
    by = [trial["suggested_by"] for trial in study.trials()]
    assert by == ["default", *["random"] * 4, "surrogate", "surrogate"]
    last = study.trials()[-1]["expected"]
    assert 0 < last["mean"] < 1
    assert last["std"] > 0
    assert study.trials()[1]["expected"] is None
    mean, deviation = study.surrogate([trial["values"] for trial in study.trials()])
    assert len(mean) == len(deviation) == 7
    stock = build(tmp_path / "stock", oracle="random", trials=2)
    stock.search()
    assert [trial["suggested_by"] for trial in stock.trials()] == ["default", None]
    assert stock.surrogate is None
    assert stock.prior_suggestions() == []
