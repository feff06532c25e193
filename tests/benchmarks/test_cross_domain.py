import dataclasses
import json
import sys

import numpy as np
import pytest

import tfrec_meta as tm
from benchmarks import cross_domain
from benchmarks.cross_domain import Asked


def by_item(ratings, support, asked):
    """Stands in for `predict_events`; the ranker is a dict of items' ratings."""
    ids = asked.item_ids[asked.item_codes]
    return np.array([ratings[item] for item in ids], np.float32)


def test_figures_are_of_what_follows_the_first_events(monkeypatch):
    monkeypatch.setattr(cross_domain, "predict_events", by_item)
    items = np.array([f"i{n:02}" for n in range(20)], object)
    user = ["u"] * 15 + ["few"] * 5
    ids = [*items[:15], *items[:5]]
    value = [3.0] * 10 + [5.0, 1.0, 5.0, 1.0, 1.0] + [3.0] * 5
    data = tm.Interactions.from_arrays(user, ids, time=np.arange(20), value=value)
    asked = Asked(data, items)
    assert list(asked.users) == ["u"]
    assert len(asked.support(3)) == 3
    # The first ten are no candidates; i10 is put first, i12 third, behind one that isn't liked.
    ratings = dict.fromkeys(items[:10], 9.0) | dict.fromkeys(items[10:], 0.0)
    ratings |= {"i10": 5.0, "i11": 4.0, "i12": 3.0}
    found = asked.judged(ratings, 3)
    np.testing.assert_allclose(found["mae"], [(0 + 3 + 2 + 0 + 0) / 5])  # 0 is cut to 1
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(found["ndcg_at_10"], [(1 + 1 / np.log2(4)) / ideal])


@pytest.mark.slow
def test_a_short_run_ends_with_every_figure(monkeypatch, capsys):
    data = tm.movielens("100k")
    some = data.take(data.user_codes < 150)
    monkeypatch.setattr(cross_domain.arguments, "load", lambda _: some)
    small = {"hidden": (4,), "embedding_dim": 2, "tasks_per_step": 4}
    monkeypatch.setattr(cross_domain, "OURS", dataclasses.replace(cross_domain.OURS, **small))
    settings = [dataclasses.replace(one, **small) for one in cross_domain.SCRATCH]
    monkeypatch.setattr(cross_domain, "SCRATCH", settings)
    monkeypatch.setattr(sys, "argv", ["cross_domain", "--quick"])
    cross_domain.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["genres"] == ["Drama"]
    for method in cross_domain.METHODS:
        for shots in cross_domain.SHOTS:
            assert 0 < result[f"{method}_mae_{shots}"] < 4
            assert 0 <= result[f"{method}_ndcg_at_10_{shots}"] <= 1
    assert set(result["by_genre"]) == {"Drama"}
    assert result["users"] == pytest.approx(26, abs=6)
