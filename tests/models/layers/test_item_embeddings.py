"""Initial item embeddings: neighbours, lengths, and items without information."""

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse

import tfrec_meta as tm
from tfrec_meta.models import TwoTower
from tfrec_meta.models.layers import item_embeddings as ie

LEARNED = ("item2vec", "spectral", "lightgcn", "words")


@pytest.fixture(scope="module")
def data():
    """Users of a0 … a5 and of b0 … b5, one of both, and c, which has no events."""
    rng = np.random.default_rng(0)
    pairs = [(f"{kind}{u}", f"{kind}{i}") for kind in "ab" for u in range(12) for i in range(6)]
    pairs = [pair for pair in pairs if rng.random() < 0.7] + [("both", "a0"), ("both", "b0")]
    users, items = zip(*pairs, strict=True)
    names = [f"{kind}{i}" for kind in "ab" for i in range(6)] + ["c"]
    nouns = {"a": "sea wave", "b": "hill tree"}
    titles = [f"{nouns[name[0]]} {name[0]}{int(name[1]) % 2}" for name in names[:-1]]
    table = pa.table({"item_id": names, "title": [*titles, ""]})
    return tm.Interactions.from_arrays(users, items, items=table)


@pytest.fixture(scope="module")
def spec(data):
    return tm.FeatureSpec(item=(tm.Text("title"),)).fit(data)


def start(spec, dim=8):
    return np.random.default_rng(1).normal(0, dim**-0.5, (len(spec.items), dim)).astype(np.float32)


def embed(name, data, spec, dim=8):
    return ie.initial_item_embeddings(name, data, spec, start(spec, dim))


@pytest.mark.parametrize("name", LEARNED)
def test_items_of_the_same_users_or_words_are_neighbours(name, data, spec):
    # The words have four dimensions; all others would stay random.
    vectors = embed(name, data, spec, 4 if name == "words" else 16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    a, b = (vectors[spec.items.encode([f"{kind}{i}" for i in range(6)])] for kind in "ab")
    inside = np.mean([(x @ x.T)[np.triu_indices(6, 1)].mean() for x in (a, b)])
    assert inside > (a @ b.T).mean() + 0.3


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("dim", [2, 8, 40])
def test_rows_with_information_have_length_1(name, dim, data, spec):
    vectors = embed(name, data, spec, dim)
    assert vectors.shape == (len(spec.items), dim)
    assert vectors.dtype == np.float32
    known = spec.items.encode([f"a{i}" for i in range(6)])
    np.testing.assert_allclose(np.linalg.norm(vectors[known], axis=1), 1, atol=0.5)
    assert (vectors.std(axis=0) > 0).all()  # a column that is constant would stay constant


@pytest.mark.parametrize("name", LEARNED)
def test_items_without_information_keep_their_random_start(name, data, spec):
    rows = np.append(0, spec.items.encode(["c"]))
    np.testing.assert_array_equal(embed(name, data, spec)[rows], start(spec)[rows])


@pytest.mark.parametrize("name", LEARNED)
def test_results_repeat(name, data, spec):
    np.testing.assert_array_equal(embed(name, data, spec), embed(name, data, spec))


def test_random_changes_nothing(data, spec):
    np.testing.assert_array_equal(embed("random", data, spec), start(spec))


def test_item2vec_factorises_the_positive_pointwise_mutual_information():
    # Pairs: 0-1 twice, 0-2 once, so that items occur 3, 2 and 1 times in 3 pairs, 6 both ways.
    interactions = scipy.sparse.csr_matrix([[1, 1, 0], [1, 1, 0], [1, 0, 1]], dtype=np.float32)
    information = np.zeros((3, 3))
    information[0, 1] = information[1, 0] = np.log(2 * 6 / (3 * 2))
    information[0, 2] = information[2, 0] = np.log(1 * 6 / (3 * 1))
    left, sizes, _ = np.linalg.svd(information)
    expected = (left * np.sqrt(sizes))[:, :2]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = ie.item2vec(interactions, 2)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-5)


def test_lightgcn_is_the_mean_of_the_powers_of_the_normalised_adjacency():
    rng = np.random.default_rng(2)
    dense = (rng.random((7, 5)) < 0.6).astype(float)
    dense[0] = 1
    adjacency = np.block([[np.zeros((7, 7)), dense], [dense.T, np.zeros((5, 5))]])
    degree = adjacency.sum(1)
    adjacency /= np.sqrt(degree[:, None] * degree[None, :])
    first = np.vstack([np.zeros((7, 3)), rng.normal(size=(5, 3))])
    layers = [np.linalg.matrix_power(adjacency, n) @ first for n in range(4)]
    expected = np.mean(layers, axis=0)[7:]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = ie.lightgcn(scipy.sparse.csr_matrix(dense, dtype=np.float32), first[7:])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_iterative_and_the_full_decomposition_agree():
    dense = (np.random.default_rng(3).random((60, 40)) < 0.3).astype(np.float32)
    sparse = scipy.sparse.csr_matrix(dense)
    few, all_of_them = ie.spectral(sparse, 5), ie.spectral(sparse, 40)
    left, sizes, _ = np.linalg.svd(ie._normalised(sparse).toarray().T, full_matrices=False)
    expected = (left * sizes)[:, :5]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(few @ few.T, expected @ expected.T, atol=1e-4)
    assert all_of_them.shape == (40, 40)


def test_words_without_texts_or_categories_are_refused(data):
    with pytest.raises(ValueError, match="neither texts nor categories"):
        embed("words", data, tm.FeatureSpec().fit(data))


def test_a_two_tower_model_starts_with_them_in_both_tables(data, spec):
    config = tm.TwoTowerConfig(
        embedding_dim=8, item_initializer="item2vec", share_item_embeddings=False
    )
    model = TwoTower(config, spec)
    for table in (model.item_embedding, model.history_embedding):
        table.assign(start(spec))
    model.prepare(data)
    expected = embed("item2vec", data, spec)
    np.testing.assert_array_equal(model.item_embedding, expected)
    np.testing.assert_array_equal(model.history_embedding, expected)
    with pytest.raises(ValueError, match="`item_initializer`='dice'"):
        tm.TwoTowerConfig(item_initializer="dice")
