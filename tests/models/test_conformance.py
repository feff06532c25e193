"""The model contract, run over every family."""

import dataclasses
import json

import keras_tuner
import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.models import FAMILIES, load_model
from tfrec_meta.models.base.configs import config_fields

# Quick to fit, and enough to learn a toy by heart.
STRATEGIES = {
    "two_tower": tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(embedding_dim=16, user_id=True, user_features=True),
        tm.TrainingConfig(
            epochs=60, batch_size=32, learning_rate=0.03, history="leave_one_out", weight_decay=0
        ),
        history_length=8,
    ),
    "content_tower": tm.Strategy(
        "content_tower",
        tm.ContentTowerConfig(embedding_dim=16, hidden=(32,), dropout=0.0),
        tm.TrainingConfig(
            epochs=60, batch_size=32, learning_rate=0.03, history="leave_one_out", weight_decay=0
        ),
        history_length=8,
    ),
    "ranker": tm.Strategy(
        "ranker",
        tm.RankerConfig(embedding_dim=16, hidden=(32,), user_id=True, negatives=16),
        tm.TrainingConfig(
            epochs=60, batch_size=32, learning_rate=0.03, history="leave_one_out", weight_decay=0
        ),
        history_length=8,
    ),
    "multi_task": tm.Strategy(
        "multi_task",
        tm.MultiTaskConfig(embedding_dim=16, hidden=(32,), user_id=True),
        tm.TrainingConfig(
            epochs=60, batch_size=32, learning_rate=0.03, history="leave_one_out", weight_decay=0
        ),
        history_length=8,
    ),
    "ials": tm.Strategy(
        "ials",
        FAMILIES["ials"].config_type(embedding_dim=12, l2=0.1, unseen_weight=0.1),
        history_length=8,
    ),
    "low_rank_ease": tm.Strategy(
        "low_rank_ease",
        FAMILIES["low_rank_ease"].config_type(l2=1.0, embedding_dim=12),
        history_length=8,
    ),
    "item_knn": tm.Strategy("item_knn", history_length=8),
    "ease": tm.Strategy("ease", FAMILIES["ease"].config_type(l2=1.0), history_length=8),
    "popularity": tm.Strategy("popularity", history_length=8),
    "meta_learned": tm.Strategy(
        "meta_learned",
        tm.MetaLearnedConfig(embedding_dim=12, l2=0.1, unseen_weight=0.1, weights_l2=1.0),
        history_length=8,
    ),
    "meta_ranker": tm.Strategy(
        "meta_ranker",
        tm.MetaRankerConfig(
            "interaction",
            hidden=(16,),
            shots=(1, 4),
            query=4,
            negatives=8,
            steps=300,
            learning_rate=0.03,
            weight_decay=0.0,
            item_statistics=False,
        ),
        history_length=8,
    ),
    "ensemble": tm.Strategy(
        "ensemble",
        tm.EnsembleConfig(
            members=(tm.Member("ials", {"l2": 0.1, "embedding_dim": 12}), tm.Member("item_knn")),
            fusion="borda",
            weights=(2.0, 1.0),
        ),
        history_length=8,
    ),
    "two_stage": tm.Strategy(
        "two_stage",
        tm.TwoStageConfig(
            retriever={"family": "item_knn"},
            ranker=tm.Member("ease", {"l2": 1.0}),
            candidates=6,
        ),
        history_length=8,
    ),
}

# Each history encoder, without the user id that would let it off.
for _encoder in ("attention", "gru", "convolution", "transformer"):
    STRATEGIES[f"two_tower of {_encoder}"] = dataclasses.replace(
        STRATEGIES["two_tower"],
        model=tm.TwoTowerConfig(
            embedding_dim=16, encoder=_encoder, encoder_layers=1, encoder_dropout=0.1
        ),
    )
# Each interaction of a ranker.
for _interaction in ("dcn", "dlrm", "deepfm"):
    STRATEGIES[f"ranker of {_interaction}"] = dataclasses.replace(
        STRATEGIES["ranker"],
        model=dataclasses.replace(STRATEGIES["ranker"].model, interaction=_interaction),
    )
STRATEGY_NAMES = sorted(STRATEGIES)
LEARNS_HISTORIES = [name for name in STRATEGY_NAMES if name != "popularity"]
# One of the encoders or interactions will do where each would cost seconds: the one with most that
# is random, or whose layers are not ours.
ONE_OF_EACH = [n for n in STRATEGY_NAMES if " of " not in n or n.endswith(("transformer", "dcn"))]


def test_every_family_is_here():
    assert {strategy.family for strategy in STRATEGIES.values()} == set(FAMILIES)


def toy():
    """Ten users who touched all of a0 … a4, but u0, who has not met a4; four users of b0 … b4."""
    pairs = [(f"u{u}", f"a{i}") for u in range(10) for i in range(5) if (u, i) != (0, 4)]
    pairs += [(f"v{u}", f"b{i}") for u in range(4) for i in range(5)]
    users, items = zip(*pairs, strict=True)
    return tm.Interactions.from_arrays(
        users,
        items,
        time=np.arange(len(pairs)),
        users=pa.table(
            {
                "user_id": sorted(set(users)),
                "team": ["red" if user < "v" else "blue" for user in sorted(set(users))],
            }
        ),
        items=pa.table(
            {
                "item_id": sorted(set(items)),
                "kind": [item[0] for item in sorted(set(items))],
                "price": [float(i) for i in range(len(set(items)))],
            }
        ),
        name="toy",
    )


def fifty_rows():
    """Ten users with five items each that nobody else has, each with a tag of its own."""
    users = [f"u{row // 5}" for row in range(50)]
    items = [f"i{row}" for row in range(50)]
    known = pa.table({"item_id": items, "tags": [[f"t{row}"] for row in range(50)]})
    return tm.Interactions.from_arrays(users, items, time=np.arange(50), items=known, name="fifty")


@pytest.fixture(scope="module", params=STRATEGY_NAMES)
def model(request):
    return tm.train(toy(), STRATEGIES[request.param], progress=False)


def asked(model, users, histories, width=8):
    padded = [list(history) + [""] * (width - len(history)) for history in histories]
    return model.spec.encode_queries(users, np.array(padded, object))


def ranking(model, scores, without=()):
    items = model.spec.items.decode(np.argsort(-scores, kind="stable") + 1)
    return [item for item in items if item not in without]


def test_config_round_trips_through_json(model):
    record = json.loads(json.dumps(dataclasses.asdict(model.config)))
    assert type(model.config)(**config_fields(record)) == model.config


def test_config_is_frozen(model):
    for field in dataclasses.fields(model.config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(model.config, field.name, None)


def searched(model, hp):
    """The strategy, whose checks are the test."""
    parts = model.search_space(hp)
    teacher = parts.pop("teacher", None)
    chosen = [{k: v for k, v in parts[name].items() if v is not None} for name in parts]
    assert list(parts) == ["model", "training"]
    config, recipe = type(model.config)(**chosen[0]), tm.TrainingConfig(**chosen[1])
    return tm.Strategy(model.family, config, recipe, teacher=teacher)


def test_search_space_defaults_to_the_default_strategy(model):
    hp = keras_tuner.HyperParameters()
    assert searched(model, hp) == tm.Strategy(model.family)


def test_search_space_gives_valid_strategies_anywhere(model):
    hp = keras_tuner.HyperParameters()
    model.search_space(hp)
    for seed in range(20):
        for parameter in hp.space:
            hp.values[parameter.name] = parameter.random_sample(seed)
        searched(model, hp)


def test_search_space_is_declared_whole_whatever_is_chosen(model):
    hp = keras_tuner.HyperParameters()
    model.search_space(hp)
    names = [parameter.name for parameter in hp.space]
    for seed in range(5):
        for parameter in hp.space:
            hp.values[parameter.name] = parameter.random_sample(seed)
        model.search_space(hp)
        assert [parameter.name for parameter in hp.space] == names


def test_the_obvious_item_comes_first(model):
    seen = ["a0", "a1", "a2", "a3"]
    scores = model.score(asked(model, ["u0"], [seen]))[0]
    assert ranking(model, scores, without=seen)[0] == "a4"


def test_scores_are_float32_of_the_whole_catalogue(model):
    scores = model.score(asked(model, ["u0", "v0"], [["a0"], ["b0"]]))
    assert scores.shape == (2, 10)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_chosen_items_score_as_in_the_whole_catalogue(model):
    queries = asked(model, ["u0", "nobody"], [["a0", "a1"], []])
    items = np.array([[3, 1, 3], [10, 2, 5]], np.int32)
    whole = np.take_along_axis(model.score(queries), items - 1, axis=1)
    np.testing.assert_allclose(model.score(queries, items), whole, rtol=1e-5, atol=1e-5)


def test_an_unknown_item_has_a_finite_score(model):
    queries = asked(model, ["u0", "nobody"], [["a0"], []])
    assert np.isfinite(model.score(queries, np.zeros((2, 1), np.int32))).all()


def test_scoring_in_chunks_changes_nothing(model):
    queries = asked(model, ["u0", "u1", "v0"], [["a0"], ["a1", "a2"], ["b0"]])
    np.testing.assert_allclose(
        model.score(queries, batch=1), model.score(queries), rtol=1e-5, atol=1e-6
    )


def test_no_queries_give_no_rows(model):
    empty = {name: value[:0] for name, value in asked(model, ["u0"], [[]]).items()}
    assert model.score(empty).shape == (0, 10)


def test_each_row_depends_on_itself_alone(model):
    alone = model.score(asked(model, ["v0"], [["b1"]]))
    beside = model.score(asked(model, ["u0", "v0"], [["a0", "a1", "a2"], ["b1"]]))
    np.testing.assert_allclose(beside[1:], alone, rtol=1e-5, atol=1e-6)


def test_a_stranger_gets_the_prior(model):
    scores = model.score(asked(model, ["nobody", ""], [[], []]))
    np.testing.assert_allclose(scores, np.stack([model.prior()] * 2), rtol=1e-6)


def test_the_prior_is_the_smoothed_share_of_each_item(model):
    # 69 interactions and one more for each of 10 items; a0 was touched ten times, b0 four times.
    prior = dict(zip(model.spec.items.decode(np.arange(1, 11)), np.exp(model.prior()), strict=True))
    assert prior["a0"] == pytest.approx(11 / 79, rel=1e-5)
    assert prior["b0"] == pytest.approx(5 / 79, rel=1e-5)


def test_unknown_items_in_a_history_are_ignored(model):
    clean = model.score(asked(model, ["nobody"], [["a0", "a1"]]))
    noisy = model.score(asked(model, ["nobody"], [["a0", "never seen", "a1", "\x00"]]))
    np.testing.assert_allclose(noisy, clean, rtol=1e-6)


def test_saved_and_loaded_it_scores_the_same(model, tmp_path):
    tm.save(model, tmp_path / "model")
    loaded = tm.load(tmp_path / "model")
    queries = asked(model, ["u0", "v1", "nobody"], [["a0"], ["b0", "b1"], []])
    # Not bit by bit: `model` has been traced for any number of rows, `loaded` for these.
    np.testing.assert_allclose(loaded.score(queries), model.score(queries), rtol=1e-6, atol=1e-6)
    assert loaded.config == model.config
    assert loaded.spec == model.spec
    assert loaded.items.equals(model.items)


def test_saving_never_replaces_unasked(model, tmp_path):
    tm.save(model, tmp_path / "model")
    with pytest.raises(FileExistsError, match="model"):
        tm.save(model, tmp_path / "model")
    tm.save(model, tmp_path / "model", overwrite=True)


def test_the_saved_folder_holds_no_pickle(model, tmp_path):
    tm.save(model, tmp_path / "model")
    with np.load(tmp_path / "model" / "weights.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "fi" for name in arrays.files)


def test_an_unfitted_spec_is_refused(model):
    with pytest.raises(ValueError, match="not fitted"):
        type(model)(model.config, tm.FeatureSpec())


def test_serving_functions_cover_what_the_family_has(model):
    functions = model.serving_functions()
    assert "score" in functions
    assert ("embed_query" in functions) == ("embed_item" in functions) == model.has_embeddings


def test_dot_products_of_the_embeddings_are_the_scores(model):
    if not model.has_embeddings:
        return  # nothing to multiply
    queries = asked(model, ["u1", "v2"], [["a0", "a3"], ["b1"]])
    items = {
        "item_id": np.arange(1, 11, dtype=np.int32),
        **{name: value[1:] for name, value in model.spec.encode_items(model.items).items()},
    }
    product = model.embed_query(queries).numpy() @ model.embed_item(items).numpy().T
    np.testing.assert_allclose(product, model.score(queries), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LEARNS_HISTORIES)
def test_fifty_rows_are_learned_by_heart(name):
    data = fifty_rows()
    model = tm.train(data, STRATEGIES[name], progress=False)
    items = np.array(data.events["item_id"].to_pylist()).reshape(10, 5)
    scores = model.score(asked(model, [f"u{u}" for u in range(10)], items[:, :4]))
    found = [
        ranking(model, row, without=set(own[:4]))[0] == own[4]
        for row, own in zip(scores, items, strict=True)
    ]
    assert all(found)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_same_seed_gives_the_same_scores(name):
    strategy = STRATEGIES[name]
    if strategy.family in ("two_tower", "content_tower", "ranker", "multi_task"):
        recipe = dataclasses.replace(strategy.training, epochs=3)
        strategy = dataclasses.replace(strategy, training=recipe)
    first, second = (tm.train(toy(), strategy, progress=False) for _ in range(2))
    queries = asked(first, ["u0"], [["a0"]])
    np.testing.assert_array_equal(first.score(queries), second.score(queries))


def test_loading_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no saved model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 99}, "format 99"), ({"family": "oracle_bones"}, "oracle_bones")],
)
def test_loading_what_another_version_wrote_says_so(tmp_path, change, message):
    tm.save(tm.train(toy(), "popularity"), tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "model")


def test_a_damaged_model_is_refused_by_its_folder(tmp_path):
    folder = tmp_path / "model"
    tm.save(tm.train(toy(), STRATEGIES["ease"]), folder)
    whole = {name: (folder / name).read_bytes() for name in ("weights.npz", "model.json")}

    def refused(name, content, message):
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_model(folder)
        (folder / name).write_bytes(whole[name])

    refused("weights.npz", whole["weights.npz"][:100], f"(?s){folder}.*damaged")
    refused("model.json", whole["model.json"][:20], f"(?s){folder}.*damaged")
    refused("model.json", b"[]", "lacks a part")
    extra = {**json.loads(whole["model.json"]), "config": {"l2": 1.0, "colour": "red"}}
    refused("model.json", json.dumps(extra).encode(), f"(?s){folder}.*damaged.*colour")
    with np.load(folder / "weights.npz") as arrays:
        broken = {name: np.full_like(arrays[name], np.nan) for name in arrays.files}
    np.savez(tmp_path / "broken.npz", **broken)
    refused("weights.npz", (tmp_path / "broken.npz").read_bytes(), "no numbers")
    load_model(folder)
