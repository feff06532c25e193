"""Two processes on one folder: the second waits, and no finished work is lost."""

import json
import threading

import pytest

import tfrec_meta as tm
from tests.processes import Script
from tfrec_meta.io.locks import locked_folder


def results(*scripts):
    found = []
    for script in scripts:
        out, err = script.communicate(250)
        assert script.returncode == 0, err
        found.append((out, err))
    return found


def test_three_exports_at_once_become_three_versions(tmp_path):
    data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
    model = tm.train(data, "popularity", progress=False)
    config = tm.ExportConfig(history_width=10, max_k=5, k=5)
    found, barrier = [], threading.Barrier(3)

    def export():
        barrier.wait()
        found.append(tm.export(model, tmp_path / "shop", config).name)

    threads = [threading.Thread(target=export) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["1", "2", "3"]
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == ["1", "2", "3"]


@pytest.mark.slow
def test_two_searches_in_one_folder_run_each_trial_once(tmp_path):
    code = """
        import sys
        from pathlib import Path
        import tfrec_meta as tm
        folder = Path(sys.argv[1])
        data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
        study = tm.tune(data, 3, families=["popularity", "ease"], oracle="random",
                        strategy=tm.Strategy("popularity"), folder=folder / "study",
                        store=folder / "store", progress=False)
        print([trial["trial_id"] for trial in study.trials])
    """
    (one, _), (two, _) = results(Script(code, tmp_path), Script(code, tmp_path))
    assert one.splitlines()[-1] == two.splitlines()[-1]
    lines = (tmp_path / "store" / "studies.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert len({record["study_id"] for record in records}) == 1
    trials = [record["trial_id"] for record in records if record["kind"] == "trial"]
    assert sorted(trials) == sorted(set(trials))
    assert len(trials) == 3


@pytest.mark.slow
def test_two_trainings_of_one_run_end_with_one_model(tmp_path):
    code = """
        import sys
        from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
        from tfrec_meta.workflows.runs import Run
        run = Run.begin(sys.argv[1], {
            "data": {"source": ["synthetic-30x20x300"]},
            "strategy": {"family": "two_tower", "training": {"epochs": 2}},
        })
        model = run.train()
        run.evaluate(EvaluationSettings(baselines=(), resamples=10))
        print([line["loss"] for line in model.curve])
    """
    folder = tmp_path / "run"
    (one, _), (two, _) = results(Script(code, folder), Script(code, folder))
    assert one == two
    assert len(json.loads(one)) == 2
    assert json.loads((folder / "evaluation.json").read_text())


@pytest.mark.slow
def test_a_second_process_says_for_whom_it_waits(tmp_path):
    code = """
        import sys
        from tfrec_meta.io.locks import locked_folder
        with locked_folder(sys.argv[1]) as waited:
            print(waited)
    """
    with locked_folder(tmp_path):
        second = Script(code, tmp_path)
        with pytest.raises(TimeoutError):
            second.communicate(3)
    ((out, err),) = results(second)
    assert out == "True\n"
    assert f"{tmp_path} is in use by process " in err
    assert "waiting until it is free" in err
