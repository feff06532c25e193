"""Items of the history are recommended again, alike in all steps from training to the export."""

import pytest

import tfrec_meta as tm
from tests.commands.calls import run_json
from tfrec_meta.data import user_histories
from tfrec_meta.evaluation import Group
from tfrec_meta.export.signatures import RECOMMEND
from tfrec_meta.models import IALSConfig
from tfrec_meta.workflows.runs import Run

# 40 users take the same two of eight items in turn, so every held-out item is in the history.
USERS = [f"u{user}" for user in range(40) for _ in range(6)]
ITEMS = [f"i{(user + place % 2) % 8}" for user in range(40) for place in range(6)]
DATA = tm.Interactions.from_arrays(USERS, ITEMS, list(range(240)))
SPLIT = tm.split_leave_last_out(DATA)


@pytest.fixture(scope="module")
def ials():
    return tm.train(SPLIT, tm.Strategy("ials", IALSConfig(l2=0.01)), progress=False)


def test_without_the_option_all_held_out_items_are_misses(ials):
    found = tm.evaluate(ials, SPLIT, k=3, baselines=["ease"], resamples=0)
    for one in found.values():
        assert one["hr@3"].value == 0
        assert one.counts["seen"] == one.counts["relevant"] == 40
        assert one.groups[Group.REPEAT_ITEMS].counts == {"queries": 40, "relevant": 40}
        assert one.groups[Group.NEW_ITEMS].counts == {"queries": 0, "relevant": 0}


def test_with_the_option_they_are_ranked(ials):
    found = tm.evaluate(
        ials, SPLIT, k=3, baselines=["item_knn"], recommend_history=True, resamples=0
    )
    assert found["ials"]["hr@3"].value == 1
    assert found["item_knn"]["hr@3"].value > 0
    repeat = found["ials"].groups[Group.REPEAT_ITEMS]
    assert repeat.metrics["ndcg@3"] == found["ials"]["ndcg@3"]
    assert found["ials"].counts["seen"] == 0


def test_validation_follows_the_option():
    recipe = tm.TrainingConfig(epochs=1, batch_size=64)
    strategy = tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=8), recipe)
    with_it, without = (
        tm.train(SPLIT, strategy, progress=False, recommend_history=option)
        for option in (True, False)
    )
    assert without.curve[-1]["val_recall@10"] == 0
    assert with_it.curve[-1]["val_recall@10"] == 1  # of 8 items the list of 8 has all


def test_a_training_folder_resumes_only_with_the_same_option(tmp_path):
    recipe = tm.TrainingConfig(epochs=1, batch_size=64)
    strategy = tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=8), recipe)
    tm.train(SPLIT, strategy, folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"data\.validation"):
        tm.train(SPLIT, strategy, folder=tmp_path, progress=False, recommend_history=True)


def test_tuning_follows_the_option():
    def best(option):
        strategy = tm.Strategy("ials")
        return tm.tune(
            SPLIT,
            trials=1,
            strategy=strategy,
            remember=False,
            progress=False,
            recommend_history=option,
        ).best_value

    assert best(False) == 0
    assert best(True) > 0.5


@pytest.mark.slow
def test_recommendations_and_export_agree(ials, tmp_path):
    tf = pytest.importorskip("tensorflow")
    users = ["u0", "u3", "u7"]
    histories = user_histories(SPLIT.past, users, 6)
    for option in (True, False):
        config = tm.ExportConfig(k=4, max_k=8, history_width=6, recommend_history=option)
        folder = tm.export(ials, tmp_path / str(option), config)
        signature = tf.saved_model.load(str(folder)).signatures[RECOMMEND]
        served = signature(
            user_id=tf.constant(users),
            history=tf.constant(histories.astype(str)),
            exclude=tf.constant([[""] * 50] * 3),
            k=tf.constant([4] * 3),
        )["item_id"].numpy()
        ours = tm.recommend(ials, users, SPLIT.past, k=4, recommend_history=option)
        assert [[one.item_id for one in row] for row in ours] == [
            [item.decode() for item in row] for row in served
        ]
        known = [set(row) for row in histories]
        shown = [{one.item_id for one in row} for row in ours]
        assert all(bool(a & b) is option for a, b in zip(known, shown, strict=True))


def test_a_run_keeps_the_option_for_all_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = zip(USERS, ITEMS, range(240), strict=True)
    lines = ["user_id,item_id,time", *(f"{user},{item},{time}" for user, item, time in rows)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    run_json(
        *(capsys, "train", "--run", "runs/a", "--data", "log.csv", "--split", "leave-last-out"),
        *("--family", "ials", "--recommend-history"),
    )
    assert Run.open("runs/a").settings["recommend_history"] is True
    found = run_json(capsys, "evaluate", "--run", "runs/a", "-k", "3", "--baselines", "none")
    assert found["evaluations"]["ials"]["metrics"]["hr@3"]["value"] > 0.2
    assert found["evaluations"]["ials"]["recommend_history"] is True
    exported = []
    monkeypatch.setattr(
        "tfrec_meta.workflows.export.export",
        lambda model, base, config, **_: exported.append(config) or tmp_path / "1",
    )
    run_json(capsys, "export", "--run", "runs/a")
    assert exported[0].recommend_history
