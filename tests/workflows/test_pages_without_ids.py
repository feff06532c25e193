"""Pages, stored studies and evaluations hold no id of a user."""

import numpy as np
import pytest

import tfrec_meta as tm

MARK = "@mail.example"


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    data = tm.Interactions.from_arrays(
        [f"u{k}{MARK}" for k in rng.integers(0, 30, 400)],
        [f"i{k}" for k in rng.integers(0, 12, 400)],
        np.arange(400) + 10**9,
    )
    return tm.split_by_user(data, 0.7, 0.15, seed=1)


def texts_in(*folders):
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert found
    return {path.name: path.read_bytes() for path in found}


def with_ids(files):
    return {name for name, content in files.items() if MARK.encode() in content}


@pytest.mark.slow  # the first search of a process takes more than five seconds
def test_a_search_writes_no_id_into_its_folder_its_page_and_the_store(split, tmp_path):
    tm.tune(
        split,
        2,
        families=["ease"],
        oracle="random",
        folder=tmp_path / "study",
        store=tmp_path / "store",
    )
    files = texts_in(tmp_path)
    assert {"report.html", "studies.jsonl"} <= set(files)
    assert with_ids(files) == set()


@pytest.mark.slow  # trains three models
def test_the_page_of_a_distillation_has_no_id(split, tmp_path):
    recipe = tm.TrainingConfig(epochs=1, batch_size=128)
    student = tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=8, negatives="full"), recipe)
    tm.distill(split, "popularity", student, folder=tmp_path, k=5, resamples=9, progress=False)
    assert with_ids(texts_in(tmp_path)) == set()


def test_the_page_of_new_users_has_no_id(split, tmp_path):
    cold = tm.split_cold_users(split.data, test=0.3, seed=1)
    model = tm.train(cold, "ease", progress=False)
    found = tm.evaluate_cold_start(
        model, cold, shots=(1,), k=5, baselines=["popularity"], later=2, resamples=9
    )
    found.write(tmp_path / "page.html")
    assert with_ids(texts_in(tmp_path)) == set()
