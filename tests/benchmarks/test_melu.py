import dataclasses
import json
import sys

import numpy as np
import pytest

import tfrec_meta as tm
from benchmarks import melu

TWO = tm.Interactions.from_arrays(
    ["u"] * 10 + ["v"] * 10, [f"i{n}" for n in range(10)] * 2, value=[5, 1] * 10
)


def test_figures_are_of_each_user():
    said = np.array([5.0, 1.0] * 5 + [1.0, 9.0] * 5)
    found = melu.judged(said, TWO)
    np.testing.assert_allclose(found["mae"], [0.0, 4.0])  # 9 is cut to 5
    # v's first is a film of rating 1 where one of 5 would be best: 2 - 1 against 32 - 1.
    np.testing.assert_allclose(found["ndcg_at_1"], [1.0, 1 / 31])
    np.testing.assert_allclose(found["ndcg_at_5"], [1.0, 1 / 31])


def test_ten_ratings_of_each_user_are_asked_about_and_the_others_known():
    data = tm.synthetic(users=30, items=60, interactions=900, seed=1)
    counts = np.bincount(data.user_codes)
    data = data.take((counts > 10)[data.user_codes])
    support, query = melu.support_and_query(data, seed=3)
    assert set(np.bincount(query.user_codes)) == {10}
    assert len(support) + len(query) == len(data)


def test_biases_are_shrunk_means():
    train = tm.Interactions.from_arrays(["a", "b", "a"], ["x", "x", "y"], value=[5, 4, 3])
    known = tm.Interactions.from_arrays(["c", "c"], ["x", "new"], value=[3, 5])
    asked = tm.Interactions.from_arrays(["d", "c"], ["x", "y"], value=[0, 0])
    # The mean is 4; x is 1 / (2 + 2) above, y -1 / (1 + 2). c is -1.25 and 1 off that: -.25 / 3.
    found = melu.biases(train, of_items=2.0, of_users=1.0)(known, asked)
    np.testing.assert_allclose(found, [4.25, 4 - 1 / 3 - 0.25 / 3])


@pytest.mark.slow
def test_a_short_run_ends_with_every_figure_and_is_stored(monkeypatch, tmp_path, capsys):
    data = tm.movielens("100k")
    some = data.take(data.user_codes < 120)
    monkeypatch.setattr(melu.arguments, "load", lambda _: some)
    # Small: what is tried has its own tests.
    small = {"hidden": (4,), "embedding_dim": 2, "tasks_per_step": 4}
    for name in ("OURS", "MELU"):
        settings = [dataclasses.replace(one, **small) for one in getattr(melu, name)]
        monkeypatch.setattr(melu, name, settings)
    monkeypatch.setattr(sys, "argv", ["melu", "--quick"])
    monkeypatch.setattr(melu, "HOME", tmp_path)
    melu.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    monkeypatch.setattr(melu, "one_seed", None)  # all figures of the second run are stored ones
    melu.main()
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {**again, "environment": 0} == {**result, "environment": 0}
    assert 0 < result["mae"] < 2
    assert 0 < result["melu_mae"] < 2
    assert 0 < result["ndcg_at_5"] <= 1
    assert result["users"] == pytest.approx(0.25 * 68, abs=6)
