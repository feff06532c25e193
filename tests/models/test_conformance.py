"""The model contract, run over every family of the registry."""

import dataclasses
import json

import keras_tuner
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tfrec_meta.models import (
    FAMILIES,
    EASEConfig,
    IALSConfig,
    LowRankEASEConfig,
    Recommender,
    load_model,
)
from tfrec_meta.models.base.configs import config_fields

EPOCHS = 15  # enough for the obvious item; fifty rows take four times as many
RECIPE = tm.TrainingConfig(
    epochs=EPOCHS, batch_size=32, learning_rate=0.03, history="leave_one_out", weight_decay=0
)
# Configs for the toys, of families whose defaults are for larger data.
CONFIGS = {
    "two_tower": tm.TwoTowerConfig(embedding_dim=16, user_id=True, user_features=True),
    "content_tower": tm.ContentTowerConfig(embedding_dim=16, hidden=(32,), dropout=0.0),
    "ranker": tm.RankerConfig(embedding_dim=16, hidden=(32,), user_id=True, negatives=16),
    "multi_task": tm.MultiTaskConfig(embedding_dim=16, hidden=(32,), user_id=True),
    "ials": IALSConfig(embedding_dim=12, l2=0.1, unseen_weight=0.1),
    "low_rank_ease": LowRankEASEConfig(l2=1.0, embedding_dim=12),
    "ease": EASEConfig(l2=1.0),
    "meta_learned": tm.MetaLearnedConfig(
        embedding_dim=12, l2=0.1, unseen_weight=0.1, weights_l2=1.0
    ),
    "meta_ranker": tm.MetaRankerConfig(
        "interaction",
        hidden=(16,),
        shots=(1, 4),
        query=4,
        negatives=8,
        steps=75,
        learning_rate=0.03,
        weight_decay=0.0,
        item_statistics=False,
    ),
    "ensemble": tm.EnsembleConfig(
        members=(tm.Member("ials", {"l2": 0.1, "embedding_dim": 12}), tm.Member("item_knn")),
        fusion="borda",
        weights=(2.0, 1.0),
    ),
    "two_stage": tm.TwoStageConfig(
        retriever={"family": "item_knn"}, ranker=tm.Member("ease", {"l2": 1.0}), candidates=6
    ),
}
# Every family of the registry; those that are not in CONFIGS with their defaults.
STRATEGIES = {
    name: tm.Strategy(name, CONFIGS.get(name), RECIPE, history_length=8) for name in FAMILIES
}
# Each history encoder, without the user id that would make the history superfluous.
for _encoder in ("attention", "gru", "convolution", "transformer"):
    STRATEGIES[f"two_tower of {_encoder}"] = dataclasses.replace(
        STRATEGIES["two_tower"],
        model=tm.TwoTowerConfig(
            embedding_dim=16, encoder=_encoder, encoder_layers=1, encoder_dropout=0.1
        ),
    )
# Each feature cross of a ranker.
for _cross in ("dcn", "dlrm", "deepfm"):
    STRATEGIES[f"ranker of {_cross}"] = dataclasses.replace(
        STRATEGIES["ranker"],
        model=dataclasses.replace(STRATEGIES["ranker"].model, interaction=_cross),
    )
STRATEGY_NAMES = sorted(STRATEGIES)
# Where each would cost seconds, one encoder and one feature cross suffice: the one with the most
# randomness, and the one whose layers are not ours.
ONE_OF_EACH = [n for n in STRATEGY_NAMES if " of " not in n or n.endswith(("transformer", "dcn"))]
# The quick tests leave out what trains for several seconds and has quick tests of its own.
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if " of " in name or name == "multi_task" else name
    for name in STRATEGY_NAMES
]


def toy():
    """Ten users of a0 … a4, of whom u0 lacks a4, and four users of b0 … b4."""
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
    """Ten users with five items each that no other user has; each item has a tag of its own."""
    users = [f"u{row // 5}" for row in range(50)]
    items = [f"i{row}" for row in range(50)]
    known = pa.table({"item_id": items, "tags": [[f"t{row}"] for row in range(50)]})
    return tm.Interactions.from_arrays(users, items, time=np.arange(50), items=known, name="fifty")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return tm.train(toy(), STRATEGIES[name], progress=False)


def queries_of(model, users, histories, width=8):
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


def searched_strategy(model, hp):
    """The strategy that a search chose; its own checks are the test."""
    parts = model.search_space(hp)
    teacher = parts.pop("teacher", None)
    chosen = [{k: v for k, v in parts[name].items() if v is not None} for name in parts]
    assert list(parts) == ["model", "training"]
    config, recipe = type(model.config)(**chosen[0]), tm.TrainingConfig(**chosen[1])
    return tm.Strategy(model.family, config, recipe, teacher=teacher)


def test_search_space_defaults_to_the_default_strategy(model):
    hp = keras_tuner.HyperParameters()
    assert searched_strategy(model, hp) == tm.Strategy(model.family)


def test_search_space_gives_valid_strategies_anywhere(model):
    hp = keras_tuner.HyperParameters()
    model.search_space(hp)
    for seed in range(20):
        for parameter in hp.space:
            hp.values[parameter.name] = parameter.random_sample(seed)
        searched_strategy(model, hp)


def test_search_space_declares_all_parameters_for_any_choice(model):
    hp = keras_tuner.HyperParameters()
    model.search_space(hp)
    names = [parameter.name for parameter in hp.space]
    for seed in range(5):
        for parameter in hp.space:
            hp.values[parameter.name] = parameter.random_sample(seed)
        model.search_space(hp)
        assert [parameter.name for parameter in hp.space] == names


def test_the_obvious_item_ranks_first(model):
    seen = ["a0", "a1", "a2", "a3"]
    scores = model.score(queries_of(model, ["u0"], [seen]))[0]
    assert ranking(model, scores, without=seen)[0] == "a4"


def test_scores_are_float32_for_the_whole_catalogue(model):
    scores = model.score(queries_of(model, ["u0", "v0"], [["a0"], ["b0"]]))
    assert scores.shape == (2, 10)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_given_items_score_as_in_the_whole_catalogue(model):
    queries = queries_of(model, ["u0", "nobody"], [["a0", "a1"], []])
    items = np.array([[3, 1, 3], [10, 2, 5]], np.int32)
    whole = np.take_along_axis(model.score(queries), items - 1, axis=1)
    np.testing.assert_allclose(model.score(queries, items), whole, rtol=1e-5, atol=1e-5)


def test_an_unknown_item_has_a_finite_score(model):
    queries = queries_of(model, ["u0", "nobody"], [["a0"], []])
    assert np.isfinite(model.score(queries, np.zeros((2, 1), np.int32))).all()


def test_scoring_in_chunks_changes_nothing(model):
    queries = queries_of(model, ["u0", "u1", "v0"], [["a0"], ["a1", "a2"], ["b0"]])
    np.testing.assert_allclose(
        model.score(queries, batch=1), model.score(queries), rtol=1e-5, atol=1e-6
    )


def test_no_queries_give_no_rows(model):
    empty = {name: value[:0] for name, value in queries_of(model, ["u0"], [[]]).items()}
    assert model.score(empty).shape == (0, 10)


def test_each_row_is_scored_independently(model):
    alone = model.score(queries_of(model, ["v0"], [["b1"]]))
    beside = model.score(queries_of(model, ["u0", "v0"], [["a0", "a1", "a2"], ["b1"]]))
    np.testing.assert_allclose(beside[1:], alone, rtol=1e-5, atol=1e-6)


def test_an_unknown_user_gets_the_prior(model):
    scores = model.score(queries_of(model, ["nobody", ""], [[], []]))
    np.testing.assert_allclose(scores, np.stack([model.prior()] * 2), rtol=1e-6)


def test_the_prior_is_the_smoothed_share_of_each_item(model):
    # 69 interactions and one more for each of 10 items; a0 has ten interactions, b0 has four.
    prior = dict(zip(model.spec.items.decode(np.arange(1, 11)), np.exp(model.prior()), strict=True))
    assert prior["a0"] == pytest.approx(11 / 79, rel=1e-5)
    assert prior["b0"] == pytest.approx(5 / 79, rel=1e-5)


def test_unknown_items_in_a_history_are_ignored(model):
    clean = model.score(queries_of(model, ["nobody"], [["a0", "a1"]]))
    noisy = model.score(queries_of(model, ["nobody"], [["a0", "never seen", "a1", "\x00"]]))
    np.testing.assert_allclose(noisy, clean, rtol=1e-6)


def test_a_loaded_model_scores_the_same(model, tmp_path):
    tm.save(model, tmp_path / "model")
    loaded = tm.load(tmp_path / "model")
    queries = queries_of(model, ["u0", "v1", "nobody"], [["a0"], ["b0", "b1"], []])
    # Not bit by bit: `model` was traced for any number of rows, `loaded` for these.
    np.testing.assert_allclose(loaded.score(queries), model.score(queries), rtol=1e-6, atol=1e-6)
    assert loaded.config == model.config
    assert loaded.spec == model.spec
    assert loaded.items.equals(model.items)


def test_saving_replaces_a_folder_only_with_overwrite(model, tmp_path):
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


def test_serving_functions_are_those_of_the_capabilities(model):
    functions = model.serving_functions()
    assert "score" in functions
    assert ("embed_query" in functions) == ("embed_item" in functions) == model.has_embeddings
    assert ("predictions" in functions) == bool(model.targets)
    assert ("adapt" in functions) == model.adapts


def test_dot_products_of_the_embeddings_are_the_scores(model):
    if not model.has_embeddings:
        pytest.skip("the family has no embeddings")
    queries = queries_of(model, ["u1", "v2"], [["a0", "a3"], ["b1"]])
    items = {
        "item_id": np.arange(1, 11, dtype=np.int32),
        **{name: value[1:] for name, value in model.spec.encode_items(model.items).items()},
    }
    product = model.embed_query(queries).numpy() @ model.embed_item(items).numpy().T
    np.testing.assert_allclose(product, model.score(queries), rtol=1e-5, atol=1e-5)


def arrays_of(model):
    """All learned arrays of a model and its members, by path."""
    arrays = dict(model.state())
    for number, member in enumerate(model.members):
        arrays |= {f"{number}/{key}": value for key, value in arrays_of(member).items()}
    return arrays


def test_the_same_seed_gives_the_same_weights(name, model):
    if name not in ONE_OF_EACH:
        pytest.skip("another encoder or feature cross covers it")
    first, second = arrays_of(model), arrays_of(tm.train(toy(), STRATEGIES[name], progress=False))
    assert len(first) == len(second)
    for (key, array), again in zip(first.items(), second.values(), strict=True):
        np.testing.assert_array_equal(array, again, err_msg=key)


@pytest.mark.parametrize(
    ("flag", "call"),
    [
        ("has_embeddings", lambda model: model.embed_query({})),
        ("has_embeddings", lambda model: model.embed_item({})),
        ("has_embeddings", lambda model: model.item_embeddings()),
        ("targets", lambda model: model.predictions({}, None)),
        ("adapts", lambda model: model.adapt(None, None)),
        ("chooses_weights", lambda model: model.choose_weights(lambda: 0.0)),
    ],
)
def test_a_missing_capability_raises_an_error_that_names_its_flag(flag, call):
    popularity = tm.train(toy(), "popularity")
    assert not getattr(popularity, flag)
    with pytest.raises(NotImplementedError, match=f"'popularity' has no .*`{flag}`"):
        call(popularity)


def test_a_family_without_the_abstract_methods_cannot_be_created():
    class Incomplete(Recommender, tf.Module):
        family = "incomplete"

    with pytest.raises(TypeError, match="abstract"):
        Incomplete()


def longer(strategy):
    """The strategy with four times the epochs."""
    recipe = dataclasses.replace(strategy.training, epochs=4 * EPOCHS)
    return dataclasses.replace(strategy, training=recipe)


@pytest.mark.parametrize("strategy", [name for name in NAMES if name != "popularity"])
def test_fifty_rows_are_memorised(strategy):
    data = fifty_rows()
    model = tm.train(data, longer(STRATEGIES[strategy]), progress=False)
    items = np.array(data.events["item_id"].to_pylist()).reshape(10, 5)
    scores = model.score(queries_of(model, [f"u{u}" for u in range(10)], items[:, :4]))
    found = [
        ranking(model, row, without=set(own[:4]))[0] == own[4]
        for row, own in zip(scores, items, strict=True)
    ]
    assert all(found)


def test_loading_a_folder_without_a_model_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no saved model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"format": 99}, "format 99"), ({"family": "oracle_bones"}, "oracle_bones")],
)
def test_loading_a_model_of_another_version_raises(tmp_path, change, message):
    tm.save(tm.train(toy(), "popularity"), tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "model")


def test_a_damaged_model_raises_an_error_with_its_folder(tmp_path):
    folder = tmp_path / "model"
    tm.save(tm.train(toy(), STRATEGIES["ease"]), folder)
    (folder / "manifest.json").unlink()  # as in a model of an earlier version
    whole = {name: (folder / name).read_bytes() for name in ("weights.npz", "model.json")}

    def refused(name, content, message):
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_model(folder)
        (folder / name).write_bytes(whole[name])

    refused("weights.npz", whole["weights.npz"][:100], f"(?s){folder}.*damaged")
    refused("model.json", whole["model.json"][:20], f"(?s){folder}.*damaged")
    refused("model.json", b"[]", "it is not a JSON object")
    extra = {**json.loads(whole["model.json"]), "config": {"l2": 1.0, "colour": "red"}}
    refused("model.json", json.dumps(extra).encode(), f"(?s){folder}.*damaged.*colour")
    with np.load(folder / "weights.npz") as arrays:
        broken = {name: np.full_like(arrays[name], np.nan) for name in arrays.files}
    np.savez(tmp_path / "broken.npz", **broken)
    refused("weights.npz", (tmp_path / "broken.npz").read_bytes(), "not numbers")
    load_model(folder)
