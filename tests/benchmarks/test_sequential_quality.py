import json
import math
import sys

import numpy as np
import pytest

import tfrec_meta as tm
from benchmarks import recbole_sasrec, sequential_quality
from tfrec_meta.data import synthetic

# u's events by time are c, a, d, b and e, f of one second, which go by row; v's are a, c, b.
TOY = tm.Interactions.from_arrays(
    ["u", "v", "u", "u", "v", "u", "v", "u", "u"],
    ["a", "c", "b", "c", "a", "d", "b", "e", "f"],
    [20, 7, 40, 10, 6, 30, 8, 50, 50],
)


def test_recbole_gets_each_event_with_its_rank_among_its_users(tmp_path):
    recbole_sasrec.write_rows(TOY, tmp_path)
    header, *rows = (tmp_path / "movielens" / "movielens.inter").read_text().splitlines()
    assert header == "user_id:token\titem_id:token\ttimestamp:float"
    ranked = ["u c 0", "u a 1", "u d 2", "u b 3", "u e 4", "u f 5", "v a 0", "v c 1", "v b 2"]
    assert [row.replace("\t", " ") for row in rows] == ranked


def test_recbole_is_told_which_rows_are_held_out_and_how_many_samples_are_left():
    told = recbole_sasrec.settings(tm.split_leave_last_out(TOY), seed=3, minutes=1.0)
    assert told["validation"] == {"u": "e", "v": "c"}
    assert told["test"] == {"u": "f", "v": "b"}
    # Of u's train rows c, a, d, b the last three have a history; v's only one has none.
    assert told["samples"] == 3
    assert told["config"]["seed"] == 3


def test_recboles_scores_are_judged_without_seen_items_and_in_our_order_of_users(tmp_path):
    items = [f"i{number}" for number in range(12)]
    # Twelve users of one event make the catalogue; u and v are asked for i3 and i8.
    users = [*(f"one{number}" for number in range(12)), *"uuuu", *"vvvv"]
    events = [*items, "i0", "i1", "i2", "i3", "i11", "i10", "i9", "i8"]
    split = tm.split_leave_last_out(tm.Interactions.from_arrays(users, events, list(range(20))))
    asked = {
        # Behind i9, which v has seen, and i0, which it has not.
        "v": {"i9": 3.0, "i0": 2.0, "i8": 1.0},
        # Behind what u has seen.
        "u": {"i0": 4.0, "i1": 3.0, "i2": 2.0, "i3": 1.0},
    }
    backwards = items[::-1]
    scores = [[of.get(item, 0.0) for item in backwards] for of in asked.values()]
    np.savez(tmp_path / "scores.npz", users=["v", "u"], items=backwards, scores=np.float32(scores))
    found = recbole_sasrec.judged(split, tmp_path / "scores.npz")
    assert found.per_query["ndcg@10"].tolist() == pytest.approx([1.0, 1 / math.log2(3)])


def result_of(users):
    return {
        "ndcg_at_10": 0.0,
        "hr_at_10": 0.0,
        "train_seconds": 60.0,
        "epochs": 3,
        "data": "100k",
        "ndcg_at_10_of_users": [0.0] * users,
    }


def test_recboles_result_of_another_split_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sequential_quality, "RECBOLE", tmp_path / "recbole_sasrec.json")
    (tmp_path / "recbole_sasrec.json").write_text(json.dumps(result_of(users=943)))
    with pytest.raises(ValueError, match="943 users, and interactions 2"):
        sequential_quality.recbole(tm.split_leave_last_out(TOY))


def test_without_recboles_result_there_is_nothing_to_compare_with(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sequential_quality, "RECBOLE", tmp_path / "recbole_sasrec.json")
    assert sequential_quality.recbole(tm.split_leave_last_out(TOY)) is None
    assert "`benchmarks.recbole_sasrec` makes it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_short_run_ends_with_every_figure(tmp_path, monkeypatch, capsys):
    data = synthetic(40, 60, 1200)
    folder = data.write(tmp_path / "written")
    users = len(tm.split_leave_last_out(data).test)
    (tmp_path / "recbole_sasrec.json").write_text(json.dumps(result_of(users)))
    monkeypatch.setattr(sequential_quality, "RECBOLE", tmp_path / "recbole_sasrec.json")
    monkeypatch.setattr(sys, "argv", ["sequential_quality", "--quick", "--data", str(folder)])
    sequential_quality.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < result["ndcg_at_10"] <= result["hr_at_10"] <= 1
    assert result["recbole_sasrec_ndcg_at_10"] == 0
    assert result["speedup"] == pytest.approx(60 / result["train_seconds"])
    assert result["epochs"] == 2
