"""Refits on all events: how long they train, and what they leave alone."""

import json

import numpy as np
import pytest

import tfrec_meta as tm
from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.export.model_card import default_card
from tfrec_meta.models.base.contract import Recommender
from tfrec_meta.training.options import TrainingOptions
from tfrec_meta.workflows.runs import Run

DATA = tm.synthetic(users=40, items=20, interactions=400, seed=2)
SPLIT = tm.split_by_time(DATA)
RECIPE = tm.TrainingConfig(epochs=4, batch_size=128)
STRATEGY = tm.Strategy("two_tower", tm.TwoTowerConfig(embedding_dim=4), RECIPE)


def with_curve(family, *values, objective="val_ndcg@10"):
    """A model that was not trained, with a curve of these values."""
    model = tm.train(SPLIT, family, progress=False)
    model.curve = [
        {"epoch": n, "loss": 1.0} | ({} if value is None else {objective: value})
        for n, value in enumerate(values, 1)
    ]
    return model


@pytest.fixture(scope="module")
def judged():
    return tm.train(SPLIT, STRATEGY, progress=False)


@pytest.mark.parametrize(
    ("values", "epochs"),
    [((0.1, 0.3, 0.2), 2), ((0.3, 0.3), 1), ((None, None, None), 3), ((float("nan"), 0.1), 2)],
)
def test_the_epochs_are_those_of_the_best_validation(values, epochs):
    model = with_curve("popularity", *values)
    assert TrainingOptions(refit_of=model).best_epoch() == epochs
    assert TrainingOptions().best_epoch() is None


def test_a_refit_trains_on_all_events_for_the_best_number_of_epochs(judged):
    judged.curve = [{**line, "val_ndcg@10": line["epoch"] == 2} for line in judged.curve]
    final = tm.refit(judged, SPLIT, STRATEGY, progress=False)
    assert [line["epoch"] for line in final.curve] == [1, 2]
    assert "val_ndcg@10" not in final.curve[0]
    assert final.item_counts.numpy().sum() == len(DATA) == final.trained_on.events
    assert judged.trained_on.events == len(SPLIT.train_index)


def test_a_refit_is_the_same_as_a_training_that_stops_after_these_epochs(judged):
    class Enough(Exception):
        pass

    stopped = []

    def stop(model, line):
        if line["epoch"] == 1:
            model.refresh()
            stopped.extend(model.get_weights())
            raise Enough

    judged.curve = judged.curve[:1]
    final = tm.refit(judged, SPLIT, STRATEGY, progress=False)
    with pytest.raises(Enough):
        tm.train(DATA, STRATEGY, progress=False, on_epoch=stop)
    for ours, theirs in zip(final.get_weights(), stopped, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_ensemble_keeps_its_weights_and_the_epochs_of_its_members():
    members = (tm.Member("popularity"), tm.Member("ease"))
    strategy = tm.Strategy("ensemble", tm.EnsembleConfig(members, weights="validation"))
    model = tm.train(SPLIT, strategy, progress=False)
    model.weights.assign([0.25, 0.75])
    final = tm.refit(model, SPLIT, strategy, progress=False)
    assert final.weights.numpy().tolist() == [0.25, 0.75]
    assert final.members[0].item_counts.numpy().sum() == len(DATA)


def test_events_of_a_random_split_keep_their_kind_of_history(monkeypatch):
    split = tm.split_by_item(DATA, train=0.8)
    model = with_curve("popularity")
    seen = []
    monkeypatch.setattr(
        "tfrec_meta.workflows.train._make_and_fit",
        lambda data, *rest: seen.append(data.sampled) or model,
    )
    tm.refit(model, split, "popularity")
    tm.refit(model, SPLIT, "popularity")
    assert seen == [True, False]


def test_a_model_without_a_curve_or_of_another_family_is_refused(judged, tmp_path):
    tm.save(judged, tmp_path / "model")
    with pytest.raises(ValueError, match="`model`, of family 'two_tower', has no learning curve"):
        tm.refit(tm.load(tmp_path / "model"), SPLIT, STRATEGY)
    with pytest.raises(ValueError, match="`model` is of family 'two_tower' and `strategy` of"):
        tm.refit(judged, SPLIT, "ease")


def test_a_saved_model_knows_on_what_it_was_trained(judged, tmp_path):
    tm.save(judged, tmp_path / "model")
    found = tm.load(tmp_path / "model").trained_on
    assert found == judged.trained_on
    assert str(found).startswith("320 events of 35 users with 20 items, ")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refit") / "shop"
    given = {
        "data": {"source": ["synthetic-40x20x400"]},
        "strategy": {
            "family": "two_tower",
            "model": {"embedding_dim": 4},
            "training": {"epochs": 2, "batch_size": 128},
        },
    }
    run = Run.begin(folder, given)
    run.train()
    return run


def test_a_stopped_refit_of_a_run_is_resumed(run, monkeypatch):
    def stop(self, folder, overwrite=False):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recommender, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run.refit()
    assert not run.is_refitted
    lines = (run.folder / "final" / "training" / "history.jsonl").read_text()
    resumed = run.refit()
    assert (run.folder / "final" / "training" / "history.jsonl").read_text() == lines
    assert run.is_refitted
    assert resumed.trained_on.events == 400
    again = run.refit()  # loads it
    assert [line["epoch"] for line in again.curve] == [line["epoch"] for line in resumed.curve]
    assert run.model().trained_on.events == 320


@pytest.mark.slow  # exports a model
def test_export_final_writes_on_what_the_model_was_trained_and_judged(tmp_path, capsys):
    words = ["--run", str(tmp_path / "run"), "--data", "synthetic-40x20x400", "--family", "ease"]
    assert cli.main(["train", *words]) == 0
    run_json(capsys, "evaluate", *words[:2], "-k", "5", "--baselines", "none")
    evaluation = (tmp_path / "run" / "evaluation.json").read_text()
    export = ["export", *words[:2], "--to", str(tmp_path / "shop"), "--final", "--json"]
    capsys.readouterr()
    assert cli.main(export) == 0
    shown = capsys.readouterr()
    assert "refit on all 400 events; the evaluation stays as it is" in shown.err
    answer = json.loads(shown.out)
    assert answer["trained_on"]["events"] == 400
    card = (tmp_path / "shop" / "1" / "assets.extra" / "model_card.md").read_text()
    for text in (
        "- Trained on 400 events of 40 users with 20 items, ",
        "- Split: by time, 0.8 train, 0.1 validation",
        "- Judged on 40 events of ",
        "- The judged model was trained on 320 events of ",
        "- Early stopping and settings were chosen on 40 events of ",
        "**This model was refitted on all 400 events; the figures are of the same strategy trained "
        "on 320 events.**",
        "ndcg@5",
    ):
        assert text in card
    assert (tmp_path / "run" / "evaluation.json").read_text() == evaluation


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (SPLIT, ""),
        (SPLIT.past, "**This model was trained on a different set of 360 events; the figures are"),
    ],
)
def test_the_card_says_if_the_figures_are_of_another_training(data, sentence):
    model = tm.train(data, "popularity", progress=False)
    found = tm.evaluate(model, SPLIT, k=5, baselines=[], resamples=0)
    card = default_card("shop", model, tm.ExportConfig(), found)
    assert "refitted" not in card
    assert (sentence or "- Trained on 320 events of ") in card
    assert ("the figures are of" in card) == bool(sentence)


def test_a_user_of_a_refitted_run_has_the_history_of_all_events(run):
    run.refit()
    user = run.split.test.events["user_id"][0].as_py()
    events = run.split.data.events.to_pandas()
    assert len(run.known_events.history(user)) == (events.user_id == user).sum()


def test_a_refit_on_other_data_is_replaced(tmp_path):
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    events = "".join(f"u{n % 7},i{n % 5},{n}\n" for n in range(40))
    log.write_text(f"user_id,item_id,time\n{events}")
    items.write_text("item_id\ni0\n")
    given = {
        "data": {"source": [str(log)], "items": str(items)},
        "strategy": {"family": "popularity"},
    }
    run = Run.begin(tmp_path / "run", given)
    run.train()
    assert run.refit().trained_on.events == 40
    rest = run.folder / "final" / "training" / "of_the_earlier_data"
    rest.parent.mkdir(exist_ok=True)
    rest.touch()
    with log.open("a") as file:
        file.write("u1,i4,100\nu2,i0,101\n")
    grown = Run.open(run.folder)
    assert not grown.is_refitted
    assert grown.refit().trained_on.events == 42
    assert not rest.exists()
    saved = (run.folder / "final" / "model").stat().st_mtime_ns
    again = Run.open(run.folder)
    assert again.is_refitted
    assert again.refit().trained_on.events == 42
    assert (run.folder / "final" / "model").stat().st_mtime_ns == saved
    items.write_text("item_id\nnew\n")  # an item without events
    assert Run.open(run.folder).refit().spec.catalogue_size == 6


def test_a_student_of_teachers_that_the_run_lacks_is_not_refitted(run, tmp_path):
    path = run.folder / "training" / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"data": record["data"] | {"teacher": "ab"}}))
    try:
        with pytest.raises(ValueError, match="is a student of teachers that the run does not have"):
            run.refit()
    finally:
        path.write_text(json.dumps(record))
