"""Results of TFX's Tuner, read as records of the store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning.store_samples import SPACE
from tfrec_meta.tuning import StudyStore, read_tfx

ROOT = Path(__file__).parents[3]


def outputs(root, execution="7", *, trials=True, best=True, rows=None):
    """Writes the files of TFX's Tuner, and `trials.json` of `pipeline/components/tuner.py`."""
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


def test_results_of_the_pipelines_tuner_become_a_study(tmp_path):
    node = outputs(tmp_path)
    header, trials = read_tfx(node)
    assert (header, trials) != read_tfx(
        node / "tuner_results" / "7"
    )  # the name is that of the folder
    assert header["study_id"] == read_tfx(node / "tuner_results" / "7")[0]["study_id"]
    store = StudyStore(tmp_path / "store")
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


def test_files_of_tfx_suffice_with_an_objective(tmp_path):
    node = outputs(tmp_path, trials=False)
    with pytest.raises(ValueError, match=r"does not record the metric.*set `objective`"):
        read_tfx(node)
    header, trials = read_tfx(node, objective="val_ndcg@10", epochs=6)
    assert (header["direction"], header["budget"]) == ("max", 6)
    assert [(t["trial_id"], t["value"]) for t in trials] == [("1", 0.3), ("0", 0.2), ("2", 0.0)]
    assert trials[1]["values"] == {"family": "ials", "ials/l2": 2.5}


def test_the_direction_follows_the_order_or_must_be_set(tmp_path):
    rows = [{"trial_id": "0", "score": 0.1}, {"trial_id": "1", "score": 0.2}]
    rising = outputs(tmp_path / "rising", trials=False, rows=rows)
    assert read_tfx(rising, objective="val_rmse")[0]["direction"] == "min"
    equal = outputs(tmp_path / "equal", rows=rows[:1])
    with pytest.raises(ValueError, match="set `direction` to max or min"):
        read_tfx(equal)
    assert read_tfx(equal, direction="max")[0]["direction"] == "max"
    with pytest.raises(ValueError, match="`direction`='up'"):
        read_tfx(equal, direction="up")


def test_results_without_the_space_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"does not contain the search space.*best_hyperparameters\.txt"
    ):
        read_tfx(outputs(tmp_path, best=False))


def test_one_of_several_executions_must_be_named(tmp_path):
    node = outputs(tmp_path, "7")
    outputs(tmp_path, "12")
    with pytest.raises(ValueError, match=r"2 executions; use the folder of one: .*12, .*7"):
        read_tfx(node)
    assert len(read_tfx(node / "tuner_results" / "12")[1]) == 3


def test_folders_without_usable_results_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no trials of a TFX Tuner"):
        read_tfx(tmp_path)
    node = outputs(tmp_path)
    path = node / "tuner_results" / "7" / "trials.json"
    for text, words in (("{}", "not a JSON list"), ("[", "not JSON"), ("[]", "`objective`")):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_tfx(node)
    path.write_text(json.dumps([{"val_a": 1.0, "val_b": 2.0}]))
    with pytest.raises(ValueError, match="set it to one of: val_a, val_b"):
        read_tfx(node)
    with pytest.raises(ValueError, match="no valid trial"):
        read_tfx(node, objective="val_a")


def test_reading_imports_neither_tensorflow_nor_keras_tuner(tmp_path):
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
