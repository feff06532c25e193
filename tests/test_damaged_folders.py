"""Every file of a training, a search, a run and a model is cut and emptied in turn.

The same call then either names the file and the way out, or ends with the right result.
"""

import json
import shutil

import numpy as np
import pytest

import tfrec_meta as tm
from tests.training.small_run import QUICK, fitted, without_seconds
from tfrec_meta.tuning.studies.store import StudyStore
from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
from tfrec_meta.workflows.runs import Run

WAYS_OUT = ("Remove ", "remove ", "again", "Use another folder")


def cut_and_empty(folder):
    """Yields each file of a folder twice: cut to its half, and empty; restores it afterwards."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    assert files
    kept = folder.with_name(f"{folder.name}-kept")
    shutil.copytree(folder, kept)
    for path in files:
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], b""):
            path.write_bytes(damaged)
            yield path
            shutil.rmtree(folder)
            shutil.copytree(kept, folder)


def named_or_right(path, use, expected):
    """Checks that a call names a damaged file and the way out, or returns what is expected."""
    try:
        found = use()
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        # A checkpoint is named by both of its files, without the numbers of its parts.
        assert path.name in message or str(path.parent) in message, message
        assert any(way in message for way in WAYS_OUT), message
    else:
        assert found == expected, path


@pytest.mark.slow
def test_training_names_a_damaged_file_or_ends_with_the_same_curve(tmp_path):
    folder = tmp_path / "training"
    _, curve = fitted(QUICK, folder=folder)
    curve = without_seconds(curve)
    for path in cut_and_empty(folder):
        named_or_right(path, lambda: without_seconds(fitted(QUICK, folder=folder)[1]), curve)


@pytest.mark.slow
def test_removing_the_last_epoch_as_the_error_says_resumes_from_the_one_before(tmp_path):
    folder = tmp_path / "training"
    model, curve = fitted(QUICK, folder=folder)
    last = folder / "checkpoints" / "epoch-3"
    (last / "state.index").write_bytes(b"")
    with pytest.raises(ValueError, match=f"Remove {last} to resume from the epoch before"):
        fitted(QUICK, folder=folder)
    shutil.rmtree(last)
    again, same = fitted(QUICK, folder=folder)
    assert without_seconds(same) == without_seconds(curve)
    for name, value in model.state().items():
        np.testing.assert_array_equal(again.state()[name], value)


@pytest.mark.slow
def test_a_left_over_of_a_killed_writer_of_checkpoints_is_cleared(tmp_path):
    _, curve = fitted(QUICK, folder=tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "epoch-3")
    (tmp_path / "checkpoints" / "best-3_temp").mkdir()
    (tmp_path / "checkpoints" / "best-3_temp" / "part-00000-of-00001").write_bytes(b"half")
    _, same = fitted(QUICK, folder=tmp_path)
    assert without_seconds(same) == without_seconds(curve)
    assert not (tmp_path / "checkpoints" / "best-3_temp").exists()


@pytest.mark.slow
def test_tuning_names_a_damaged_file_or_ends_with_the_same_trials(tmp_path):
    data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
    folder, store = tmp_path / "study", tmp_path / "store"

    def search():
        study = tm.tune(
            data,
            2,
            families=["popularity", "ease"],
            strategy=tm.Strategy("popularity"),
            oracle="random",
            folder=folder,
            store=store,
            progress=False,
        )
        return [(trial["trial_id"], trial["val_ndcg@10"]) for trial in study.trials]

    expected = search()
    for path in cut_and_empty(folder):
        named_or_right(path, search, expected)


def test_a_damaged_store_is_read_without_its_damaged_lines(tmp_path):
    data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
    strategy = tm.Strategy("popularity")
    tm.tune(data, 2, strategy=strategy, families=["ease"], store=tmp_path, progress=False)
    path = tmp_path / "studies.jsonl"
    content = path.read_bytes()
    for damaged, trials in ((content[:-20], 1), (content[:40], None), (b"", None)):
        path.write_bytes(damaged)
        studies = StudyStore(tmp_path).studies()
        assert [len(study.trials) for study in studies] == ([] if trials is None else [trials])


def test_loading_names_each_damaged_file_of_a_model(tmp_path):
    data = tm.synthetic(users=30, items=20, interactions=300, seed=1)
    tm.save(tm.train(data, "ease", progress=False), tmp_path / "model")
    for path in cut_and_empty(tmp_path / "model"):
        with pytest.raises(ValueError, match=rf"{path.name} is damaged: .* again\."):
            tm.load(tmp_path / "model")


@pytest.mark.slow
def test_a_run_names_each_damaged_file(tmp_path):
    folder = tmp_path / "run"
    given = {"data": {"source": ["synthetic-30x20x300"]}, "strategy": {"family": "popularity"}}
    run = Run.begin(folder, given)
    run.train()
    expected = json.loads(
        json.dumps(run.evaluate(EvaluationSettings(baselines=(), resamples=10)).as_dict())
    )
    run.report()

    def use():
        opened = Run.begin(folder)
        opened.model()
        found = opened.evaluations().as_dict()
        opened.report()
        return json.loads(json.dumps(found))

    for path in cut_and_empty(folder):
        named_or_right(path, use, expected)
