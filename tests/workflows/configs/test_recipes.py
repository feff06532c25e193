"""Recipes: each is trained on small sample data, and makes its point."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import tfrec_meta as tm
from tfrec_meta.data import split_by_time, user_histories
from tfrec_meta.errors import MissingColumn
from tfrec_meta.pipeline import PipelineConfig
from tfrec_meta.serving import Client, LocalServer
from tfrec_meta.workflows.configs.config_files import (
    group_over,
    read_config,
    run_part,
    settings_over,
)
from tfrec_meta.workflows.configs.evaluation_settings import EvaluationSettings
from tfrec_meta.workflows.configs.recipes import RECIPES, write_recipe
from tfrec_meta.workflows.run_settings import complete_settings, read_data, split_of
from tfrec_meta.workflows.runs import Run

USERS = 400
# Small models: the tests are about what a recipe learns from, and not about its figures.
BUDGET = {
    "shop": {"model": {"embedding_dim": 8}},
    "news": {"model": {"hidden": []}, "training": {"epochs": 4, "learning_rate": 0.02}},
    "video": {"model": {"embedding_dim": 8}},
    "music": {"model": {"embedding_dim": 8}},
    "feed": {
        "model": {"embedding_dim": 8, "hidden": [8], "bottom": "shared"},
        "training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.02},
    },
}

SLOW = ("news", "feed")  # towers, which train for several seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the recipes, by name; each with small sample data."""
    base = tmp_path_factory.mktemp("recipes")

    @functools.cache
    def folder_of(name):
        write_recipe(name, base / name, sample_data=True, users=USERS)
        return base / name

    return folder_of


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The trained run of a recipe, by name."""
    base = tmp_path_factory.mktemp("runs")

    @functools.cache
    def run_of(name):
        settings = settings_over(
            run_part(read_config(folder(name) / "config.yaml")), {"strategy": BUDGET[name]}
        )
        run = Run.begin(base / name, settings)
        run.train()
        return run

    return run_of


def history_of(run, user):
    """The items of a user before the test events, oldest first."""
    return [item for item in user_histories(run.split.past, [user], 1000)[0] if item]


def lift(run):
    """NDCG@10 of the model of a run, and that of popularity, on its test events."""
    found = run.evaluate(EvaluationSettings(10, ("popularity",), False, resamples=0))
    return [one["ndcg@10"].value for one in found.values()]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in RECIPES],
)
def test_a_model_is_better_than_popularity(trained, name):
    ours, popularity = lift(trained(name))
    assert ours > 1.1 * popularity


def test_the_shop_predicts_purchases_only(trained):
    split = trained("shop").split
    for part in (split.validation, split.test):
        assert set(part.events["event_type"].to_pylist()) == {"purchase"}
    assert set(split.train.events["event_type"].to_pylist()) == {"view", "cart", "purchase"}
    weights = dict(
        zip(split.data.events["event_type"].to_pylist(), split.data.weights, strict=True)
    )
    assert weights == {"view": 1, "cart": 3, "purchase": 10}


@pytest.mark.slow
def test_the_shop_leaves_out_what_is_not_in_stock(trained, folder, tmp_path):
    run = trained("shop")
    config = read_config(folder("shop") / "config.yaml")
    tm.export(run.model(), tmp_path / "shop", group_over(config, "export", {"max_k": 50}))
    items = run.split.data.items
    missing = {
        item
        for item, stock in zip(
            items["item_id"].to_pylist(), items["in_stock"].to_pylist(), strict=True
        )
        if stock == "no"
    }
    assert missing
    with LocalServer(tmp_path / "shop") as server, Client(server.address, "shop") as client:
        history = history_of(run, "c1")
        everything = client.recommend("c1", history=history, k=50)
        answer = client.recommend("c1", history=history, k=50, filter_in_stock=["yes"])
    assert missing & {one.item_id for one in everything}
    assert len(answer) == 50
    assert not missing & {one.item_id for one in answer}


@pytest.mark.slow
def test_the_news_recommend_articles_without_clicks(trained):
    run = trained("news")
    clicked = set(run.split.train.events["item_id"].to_pylist())
    new = set(run.split.test.events["item_id"].to_pylist()) - clicked
    assert len(new) > 30
    top = tm.recommend(run.model(), ["r1", "r2", "r3"], run.split.past, k=100)
    assert {one.item_id for items in top for one in items} - clicked


def test_abandoned_plays_are_no_success(trained):
    data = trained("video").split.data
    outcome = np.array(data.events["event_type"].to_pylist())
    minutes = data.events["minutes"].to_numpy()
    complete = outcome == "complete"
    np.testing.assert_allclose(data.weights[complete], minutes[complete], rtol=1e-6)
    assert set(data.weights[~complete]) == {0.0}
    assert (~complete).sum() > 1000


def test_music_recommends_favourites_again(trained):
    run = trained("music")
    assert run.settings["recommend_history"]
    users = [f"l{number}" for number in range(20)]
    again = tm.recommend(run.model(), users, run.split.past, k=10, recommend_history=True)
    own = [
        set(history_of(run, user)) & {one.item_id for one in top}
        for user, top in zip(users, again, strict=True)
    ]
    assert np.mean([len(each) > 0 for each in own]) > 0.8


def test_radio_from_one_track_stays_in_its_genre(trained):
    run = trained("music")
    items = run.split.data.items
    genre = dict(zip(items["item_id"].to_pylist(), items["genre"].to_pylist(), strict=True))
    plays = run.split.train.events["item_id"].value_counts().to_pylist()
    seeds = [one["values"] for one in sorted(plays, key=lambda one: -one["counts"])[:10]]
    radio = tm.Interactions.from_arrays([f"radio {seed}" for seed in seeds], seeds)
    answers = tm.recommend(run.model(), radio.user_ids, radio, k=10)
    named = dict(zip(radio.user_ids, answers, strict=True))
    same = [
        genre[one.item_id] == genre[user.removeprefix("radio ")]
        for user, top in named.items()
        for one in top
    ]
    assert np.mean(same) > 0.5  # by chance 1 in 6


def test_music_by_sessions_has_sessions_as_users(folder):
    split = split_of(complete_settings(run_part(read_config(folder("music") / "sessions.yaml"))))
    listeners = set(pyarrow.csv.read_csv(folder("music") / "events.csv")["listener"].to_pylist())
    assert len(split.data.user_ids) > 3 * len(listeners)
    assert not listeners & set(split.data.user_ids)


@pytest.mark.slow
def test_the_feed_has_several_targets_and_negative_feedback(trained):
    run = trained("feed")
    data = run.split.data
    pairs = zip(data.events["event_type"].to_pylist(), data.weights, strict=True)
    assert dict(pairs) == {"hide": -1, "click": 1, "like": 3, "share": 5}
    assert set(run.model().targets) == {"click", "rating"}
    found = run.evaluate(EvaluationSettings(baselines=(), resamples=0))
    assert found.predictions["click"]["auc"].value > 0.8


@pytest.mark.parametrize("name", RECIPES)
def test_the_pipeline_and_the_export_take_the_config(folder, name):
    path = folder(name) / "config.yaml"
    pipeline = PipelineConfig.read(path)
    assert (pipeline.name, pipeline.serving) == (name, f"models/{name}")
    assert pipeline.split.protocol == "time"
    assert pipeline.trainer.export == read_config(path)["export"]


NEEDS = [
    (name, column)
    for name, columns in {
        "shop": ("time", "event_type", "items.in_stock", "items.category"),
        "news": ("time", "items.title", "items.section"),
        "video": ("time", "event_type", "minutes", "items.genre"),
        "music": ("time", "items.genre"),
        "feed": ("time", "event_type", "value", "items.topic"),
    }.items()
    for column in columns
]


@pytest.mark.parametrize("name", RECIPES)
def test_each_needed_column_is_listed_here(folder, name):
    needs = read_config(folder(name) / "config.yaml")["data"]["needs"]
    assert [(name, column) for column in needs] == [pair for pair in NEEDS if pair[0] == name]


@pytest.mark.parametrize(("name", "column"), NEEDS)
def test_a_missing_column_is_named_with_its_purpose(folder, tmp_path, name, column):
    settings = complete_settings(run_part(read_config(folder(name) / "config.yaml")))
    data = settings["data"]
    theirs = data["columns"].get(column, column.removeprefix("items."))
    of_items = column.startswith("items.")
    source = folder(name) / ("items.csv" if of_items else "events.csv")
    table = pyarrow.csv.read_csv(source)
    pyarrow.csv.write_csv(table.drop_columns([theirs]), tmp_path / source.name)
    given = (
        {"items": str(tmp_path / "items.csv")}
        if of_items
        else {"source": [str(tmp_path / "events.csv")]}
    )
    with pytest.raises(MissingColumn) as error:
        read_data({**data, **given}, 0, settings["feedback"])
    assert f"`{theirs}`" in str(error.value) or f"`{column}`" in str(error.value)
    assert f"It is needed: {data['needs'][column]}." in str(error.value)


@pytest.mark.parametrize("column", ["time", "value", "visit"])
def test_a_needed_column_is_read_and_not_optional(tmp_path, column):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\nann,tea\n")
    settings = {"data": {"source": [str(path)], "needs": {column: "a reason"}}}
    with pytest.raises(MissingColumn, match=rf"`{column}`.* It is needed: a reason\."):
        read_data(complete_settings(settings)["data"], 0)
    path.write_text(f"user_id,item_id,{column}\nann,tea,7\n")
    assert read_data(complete_settings(settings)["data"], 0).events[column].to_pylist() != [None]


@pytest.mark.slow  # trains on MovieLens-100K
def test_the_video_recipe_suits_movielens(tmp_path):
    ratings = tm.movielens("100k")
    write_recipe("video", tmp_path / "video")
    stars = ratings.events["value"].to_numpy()
    plays = {
        "time": ratings.events["time"],
        "viewer": ratings.events["user_id"],
        "video": ratings.events["item_id"],
        "minutes": 20 * stars,
        "outcome": np.where(stars >= 4, "complete", "abandoned").tolist(),
    }
    pyarrow.csv.write_csv(pa.table(plays), tmp_path / "video" / "events.csv")
    films = pa.table(
        {
            "video": ratings.items["item_id"],
            "title": ratings.items["title"],
            "genre": [each[0] if each else "" for each in ratings.items["genres"].to_pylist()],
        }
    )
    pyarrow.csv.write_csv(films, tmp_path / "video" / "items.csv")
    run = Run.begin(tmp_path / "run", run_part(read_config(tmp_path / "video" / "config.yaml")))
    run.train()
    liked = ratings.with_feedback(tm.Feedback(positive=4))
    assert len(run.split.test_index) == len(split_by_time(liked).test_index)
    ours, popularity = lift(run)
    assert ours > popularity
