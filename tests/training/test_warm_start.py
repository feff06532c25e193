"""Warm starts: known tokens keep their weights, and new tokens get fresh ones."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tfrec_meta.keras import tf_keras
from tfrec_meta.models import TwoTower, TwoTowerConfig
from tfrec_meta.training import TrainingConfig, TrainingOptions, fit, seed_everything

SHAPE = TwoTowerConfig(
    embedding_dim=8,
    hidden=(6,),
    user_id=True,
    user_features=True,
    share_item_embeddings=False,
    encoder="attention",
)
QUICK = TrainingConfig(epochs=2, batch_size=8, learning_rate=0.02, history="earlier", rows="events")


def span(users, items, genres, seed):
    """Returns thirty events; the frequency of a token depends on its position in the list."""
    draw = np.random.default_rng(seed)
    chosen = [draw.choice(tokens, 30, p=_falling(len(tokens))) for tokens in (users, items)]
    return tm.Interactions.from_arrays(
        [*chosen[0], *users],
        [*chosen[1], *np.resize(items, len(users))],
        time=np.arange(30 + len(users)),
        users=pa.table({"user_id": users, "age": [float(len(u) + i) for i, u in enumerate(users)]}),
        items=pa.table({"item_id": items, "genre": genres}),
    )


def _falling(n):
    share = 0.5 ** np.arange(n)
    return share / share.sum()


FIRST = span(["u1", "u2", "u3"], ["a", "b", "c", "d"], ["x", "x", "y", "x"], seed=1)
# New users and items; rare tokens are now frequent, and item b is gone.
SECOND = span(["u9", "u3", "u2", "u1"], ["e", "d", "c", "a"], ["z", "z", "y", "y"], seed=2)
SPEC = tm.FeatureSpec(user=(tm.Number("age"),), item=(tm.Category("genre"),), history_length=5)
REORDERED = SPEC.fit(SECOND)  # fitted on its own, so known tokens have other rows


class Look(tf_keras.callbacks.Callback):
    """Records the weights before the first step."""

    def on_train_begin(self, logs=None):
        self.state = {v.name: v.numpy() for v in self.model.weights}


def fresh(spec, shape=SHAPE, seed=3):
    seed_everything(seed)
    return TwoTower(shape, spec)


@pytest.fixture(scope="module")
def earlier():
    model = fresh(SPEC.fit(FIRST), seed=1)
    fit(model, FIRST, QUICK, TrainingOptions(progress=False))
    return model


def rows(vocabulary, *tokens):
    return vocabulary.encode(list(tokens))


@pytest.mark.parametrize(
    "spec", [SPEC.fit(FIRST).fit(SECOND), REORDERED], ids=["extended", "refitted"]
)
def test_known_tokens_keep_their_embeddings_exactly_and_new_ones_get_fresh_ones(earlier, spec):
    cold, model, look = fresh(spec), fresh(spec), Look()
    cold.prepare(SECOND)
    options = TrainingOptions(progress=False, callbacks=[look], warm_start=earlier)
    fit(model, SECOND, QUICK, options)
    before = {name.split(":")[0]: value for name, value in look.state.items()}
    for table in ("item_embedding", "history_embedding", "item_bias"):
        old = getattr(earlier, table).numpy()
        known = rows(earlier.spec.items, "a", "c", "d")
        np.testing.assert_array_equal(
            before[table][rows(spec.items, "a", "c", "d")], old[known], err_msg=table
        )
        np.testing.assert_array_equal(
            before[table][rows(spec.items, "e")],
            getattr(cold, table).numpy()[rows(spec.items, "e")],
            err_msg=table,
        )
    users = "u1", "u2", "u3"
    np.testing.assert_array_equal(
        before["user_embedding"][rows(spec.users, *users)],
        earlier.user_embedding.numpy()[rows(earlier.spec.users, *users)],
    )
    np.testing.assert_array_equal(
        before["user_embedding"][rows(spec.users, "u9")],
        cold.user_embedding.numpy()[rows(spec.users, "u9")],
    )
    assert any(not np.array_equal(v.numpy(), look.state[v.name]) for v in model.trainable_variables)


def warmed(earlier, spec, shape=SHAPE):
    model = fresh(spec, shape)
    model.prepare(SECOND)
    model.warm_start(earlier)
    return model


def test_categories_are_matched_by_token(earlier):
    model = warmed(earlier, REORDERED)
    new, old = (m.spec.vocabularies["item.genre"] for m in (model, earlier))
    table, before = model.item_sum.table_genre.numpy(), earlier.item_sum.table_genre.numpy()
    assert rows(new, "y") != rows(old, "y")
    np.testing.assert_array_equal(table[rows(new, "y")], before[rows(old, "y")])
    assert np.abs(before[rows(old, "y")]).sum() > 0
    assert not table[rows(new, "z")].any()  # new tokens start at zero


def test_hashed_texts_keep_their_rows_with_other_vocabularies():
    hashed = tm.HashedText("genre", width=1, buckets=30)
    declared = tm.FeatureSpec(item=(hashed,), history_length=5)
    shape = TwoTowerConfig(embedding_dim=8)
    model = fresh(declared.fit(FIRST), shape)
    fit(model, FIRST, QUICK, TrainingOptions(progress=False))
    later = warmed(model, declared.fit(SECOND), shape)
    table = later.item_sum.table_genre.numpy()
    assert table.any()
    np.testing.assert_array_equal(table, model.item_sum.table_genre.numpy())
    other = dataclasses.replace(hashed, buckets=31)
    fresh_table = warmed(model, dataclasses.replace(declared, item=(other,)).fit(SECOND), shape)
    assert not fresh_table.item_sum.table_genre.numpy().any()


def test_copies_dense_layers_and_encoder(earlier):
    model = warmed(earlier, REORDERED)
    for part in ("query_layers", "item_layers", "history_encoder"):
        pairs = zip(getattr(model, part).weights, getattr(earlier, part).weights, strict=True)
        for weight, before in pairs:
            np.testing.assert_array_equal(weight.numpy(), before.numpy())


def test_dense_layers_of_other_shapes_start_fresh(earlier):
    shape = dataclasses.replace(SHAPE, hidden=(5,), encoder="gru")
    cold, model = fresh(REORDERED, shape), warmed(earlier, REORDERED, shape)
    for pair in zip(cold.query_layers.get_weights(), model.query_layers.get_weights(), strict=True):
        np.testing.assert_array_equal(*pair)
    for pair in zip(
        cold.history_encoder.get_weights(), model.history_encoder.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(*pair)
    np.testing.assert_array_equal(
        model.item_embedding.numpy()[rows(REORDERED.items, "a")],
        earlier.item_embedding.numpy()[rows(earlier.spec.items, "a")],
    )


def test_a_number_on_another_scale_starts_fresh(earlier):
    grown = earlier.spec.fit(SECOND)  # keeps the scale
    assert grown.statistics == earlier.spec.statistics != REORDERED.statistics
    before = earlier.query_sum.table_age.numpy()
    assert before.any()
    np.testing.assert_array_equal(warmed(earlier, grown).query_sum.table_age.numpy(), before)
    assert not warmed(earlier, REORDERED).query_sum.table_age.numpy().any()


def test_counts_are_those_of_the_new_data_or_else_of_the_earlier_model(earlier):
    spec = earlier.spec.fit(SECOND)
    model = warmed(earlier, spec)
    counted = dict(zip(spec.items.tokens.to_pylist(), model.item_counts.numpy(), strict=True))
    of_second = {t.as_py(): 0 for t in spec.items.tokens}
    for item in SECOND.events["item_id"].to_pylist():
        of_second[item] += 1
    of_b = FIRST.events["item_id"].to_pylist().count("b")
    assert of_second["b"] == 0 < of_b
    assert counted == {**of_second, "b": of_b}
    assert model.user_counts.numpy()[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [({"embedding_dim": 4}, "`embedding_dim`=4 cannot start from 8")],
)
def test_refuses_another_shape_and_names_the_value(earlier, change, message):
    with pytest.raises(ValueError, match=message):
        warmed(earlier, REORDERED, dataclasses.replace(SHAPE, **change))


def test_refuses_another_family(earlier):
    popular = tm.train(FIRST, "popularity")
    with pytest.raises(ValueError, match="'two_tower' cannot start from a 'popularity'"):
        tm.train(FIRST, tm.Strategy(training=QUICK), progress=False, warm_start=popular)
    with pytest.raises(ValueError, match="'ease' is solved from all events at once"):
        tm.train(FIRST, "ease", warm_start=earlier)


# Through `tfrec_meta.train`.


def strategy(**changes):
    return tm.Strategy("two_tower", SHAPE, dataclasses.replace(QUICK, **changes), SPEC)


def test_a_fitted_spec_is_used_unchanged():
    spec = SPEC.fit(FIRST)
    model = tm.train(SECOND, strategy(), progress=False, features=spec)
    assert model.spec is spec
    assert "e" not in model.spec.items.tokens.to_pylist()
    with pytest.raises(ValueError, match="not fitted"):
        tm.train(SECOND, strategy(), progress=False, features=SPEC)


@pytest.mark.slow
def test_without_a_fitted_spec_the_earlier_one_is_extended(earlier):
    model = tm.train(SECOND, strategy(), progress=False, warm_start=earlier)
    assert model.spec.items.tokens.to_pylist()[:4] == earlier.spec.items.tokens.to_pylist()
    assert model.spec.items.tokens.to_pylist()[4:] == ["e"]
    assert model.spec.statistics == earlier.spec.statistics


@pytest.mark.slow
def test_a_saved_and_reloaded_warm_start_gives_the_same_weights(earlier, tmp_path):
    tm.save(earlier, tmp_path / "model")
    one = tm.train(SECOND, strategy(), progress=False, warm_start=earlier)
    other = tm.train(SECOND, strategy(), progress=False, warm_start=tm.load(tmp_path / "model"))
    for name, value in one.state().items():
        np.testing.assert_array_equal(value, other.state()[name], err_msg=name)


class Interrupt(tf_keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_warm_start_resumes_and_ends_with_the_same_weights(earlier, tmp_path):
    def go(warm_start=earlier, **options):
        model = fresh(REORDERED)
        options = TrainingOptions(progress=False, warm_start=warm_start, **options)
        fit(model, SECOND, QUICK, options)
        return model.state()

    with pytest.raises(KeyboardInterrupt):
        go(folder=tmp_path, callbacks=[Interrupt()])
    resumed, expected = go(folder=tmp_path), go()
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    with pytest.raises(ValueError, match=r"data.warm_start"):
        go(warm_start=None, folder=tmp_path)
