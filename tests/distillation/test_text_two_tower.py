"""A BERT that learns from interactions which texts go together."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest

import tfrec_meta as tm
from tests.distillation.tiny_bert import write_tiny_bert
from tfrec_meta.distillation import BertEncoder, FineTuningConfig, fine_tuned, text_two_tower
from tfrec_meta.distillation.pairs import Pairs
from tfrec_meta.distillation.text_two_tower import Groups, leave_one_out

RECIPE = FineTuningConfig(epochs=3, batch_size=8, learning_rate=3e-3, dropout=0.1, seed=1)
KINDS = {"war": ["war", "army", "battle", "soldier"], "love": ["love", "kiss", "heart", "bride"]}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return BertEncoder(write_tiny_bert(tmp_path_factory.mktemp("tiny")), max_tokens=16)


@pytest.fixture(scope="module")
def films():
    """Two kinds of films and their viewers; those of two words of a kind, in one order, are new."""
    titles = {
        f"{kind}{place}": f"{first} and {second}"
        for kind, words in KINDS.items()
        for place, (first, second) in enumerate(itertools.permutations(words, 2))
    }
    pairs = [
        (f"{kind} {user}", item)
        for kind in KINDS
        for user in range(10)
        for place, item in enumerate(i for i in titles if i.startswith(kind))
        if place > 2 and (user + place) % 3
    ]
    users, items = zip(*pairs, strict=True)
    table = pa.table({"item_id": list(titles), "title": list(titles.values())})
    return tm.Interactions.from_arrays(users, items, items=table)


@pytest.fixture(scope="module")
def spec(films):
    return tm.FeatureSpec(history_length=10).fit(films)


def contrast(encoder):
    """How much nearer new titles are to those of their kind than to those of the other."""
    new = {
        k: encoder.encode([f"{a} of {b}" for a, b in itertools.pairwise(KINDS[k])]) for k in KINDS
    }
    within = np.mean([(v @ v.T)[np.triu_indices(len(v), 1)].mean() for v in new.values()])
    return within - (new["war"] @ new["love"].T).mean()


@pytest.mark.parametrize(
    ("method", "rate"),
    [
        ("lora", 3e-2),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (("all", 3e-3), ("adapters", 3e-2), ("prefix", 0.5))
        ),
    ],
)
def test_texts_of_items_with_common_users_become_similar_with_every_method(
    encoder, films, spec, method, rate
):
    before = contrast(encoder)
    checksum = encoder.checksum
    recipe = dataclasses.replace(RECIPE, method=method, learning_rate=rate, epochs=10)
    found = fine_tuned(encoder, films, spec, ["title"], recipe, progress=False)
    assert contrast(found) > before + 0.2
    assert found.curve[-1]["loss"] < found.curve[0]["loss"]
    assert contrast(encoder) == before
    assert found.checksum != checksum == encoder.checksum


@pytest.mark.slow
def test_run_resumes_after_a_kill_with_the_same_result(encoder, films, spec, tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPE, checkpoint_every=2, accumulation=2, batch_size=3)
    whole = fine_tuned(encoder, films, spec, ["title"], recipe, progress=False)

    class Killed(Groups):
        def batches(self, step):
            if step == 5:
                raise KeyboardInterrupt
            return super().batches(step)

    with monkeypatch.context() as patch:
        patch.setattr(text_two_tower, "Groups", Killed)
        with pytest.raises(KeyboardInterrupt):
            fine_tuned(encoder, films, spec, ["title"], recipe, tmp_path, progress=False)
    found = fine_tuned(encoder, films, spec, ["title"], recipe, tmp_path, progress=False)
    assert found.checksum == whole.checksum
    other = films.items.set_column(1, "title", pa.array(["the bride"] * len(films.items)))
    with pytest.raises(ValueError, match="another recipe, checkpoint or data"):
        fine_tuned(
            encoder,
            dataclasses.replace(films, items=other),
            spec,
            ["title"],
            recipe,
            tmp_path,
            progress=False,
        )


@pytest.mark.slow
def test_training_in_bfloat16_encodes_in_float32(encoder, films, spec):
    recipe = dataclasses.replace(RECIPE, mixed_precision=True, epochs=10)
    found = fine_tuned(encoder, films, spec, ["title"], recipe, progress=False)
    assert contrast(found) > contrast(encoder) + 0.2
    assert found.model.compute_dtype == "float32"


@pytest.mark.slow
def test_tuned_model_has_separate_cached_vectors(films, spec, tmp_path):
    first = BertEncoder(write_tiny_bert(tmp_path / "tiny"), max_tokens=16, cache=tmp_path / "cache")
    before = first.encode(["war"])
    recipe = dataclasses.replace(RECIPE, epochs=1)
    found = fine_tuned(first, films, spec, ["title"], recipe, progress=False)
    assert np.abs(found.encode(["war"]) - before).max() > 1e-3
    np.testing.assert_array_equal(first.encode(["war"]), before)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_tuned_model_is_an_ordinary_checkpoint(encoder, films, spec, tmp_path, method):
    recipe = dataclasses.replace(RECIPE, method=method, epochs=1, mixed_precision=method == "lora")
    found = fine_tuned(encoder, films, spec, ["title"], recipe, progress=False)
    found.save(tmp_path / "tuned")
    again = BertEncoder(tmp_path / "tuned", max_tokens=16)
    assert again.checksum == found.checksum
    texts = ["war and love", "", "電影"]
    np.testing.assert_array_equal(again.encode(texts), found.encode(texts))
    if method == "lora":
        more = fine_tuned(again, films, spec, ["title"], recipe, progress=False)
        assert more.checksum != again.checksum
    else:
        with pytest.raises(ValueError, match="has adapters or a prefix"):
            fine_tuned(again, films, spec, ["title"], recipe, progress=False)


def test_loss_is_of_finding_each_item_by_the_others_of_its_user():
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(5, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = [[1, 3, 4], [2, 0, 0], [5, 1, 0]]
    touched = np.zeros((3, 5), bool)
    touched[0, [0, 2, 3]] = touched[1, 1] = touched[2, [4, 0, 1]] = True
    losses = []
    for row, items in enumerate([[0, 2, 3], [1], [4, 0]]):
        for item in items:
            others = [i for i in items if i != item]
            if not others:
                continue
            query = vectors[others].sum(axis=0)
            query /= np.linalg.norm(query)
            candidates = [i for i in range(5) if i == item or not touched[row, i]]
            logits = vectors[candidates] @ query / 0.5
            losses.append(np.log(np.exp(logits).sum()) - logits[candidates.index(item)])
    found = leave_one_out(
        vectors.astype(np.float32), np.array(place, np.int32), np.array(touched), 0.5
    )
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-5)


def test_epoch_has_each_pair_once_and_no_group_of_one():
    items = [f"i{place}" for place in range(40)]
    pairs = [("a", item) for item in items[:35]] + [("b", items[0]), ("b", items[39])]
    pairs += [("once", items[1]), ("a", items[0])]
    data = tm.Interactions.from_arrays(*zip(*pairs, strict=True))
    spec = tm.FeatureSpec().fit(data)
    config = FineTuningConfig(epochs=2, batch_size=2, accumulation=1)
    groups = Groups(Pairs.of(data, spec), config)
    assert groups.steps == 4  # two epochs: three groups of a and one of b
    a_of_first = []
    for step in range(4):
        for batch in groups.batches(step):
            rows = np.concatenate([[0], batch["items"]])[batch["index"]]
            assert ((rows > 0).sum(axis=1) > 1).all()
            for own, touched in zip(rows, batch["has_item"], strict=True):
                names = set(spec.items.decode(own[own > 0]))
                expected = {items[0], items[39]} if items[39] in names else set(items[:35])
                assert names <= expected
                assert set(spec.items.decode(batch["items"][touched])) <= expected
                assert (~touched).sum() == len(
                    set(batch["items"]) - set(spec.items.encode(sorted(expected)))
                )
                if step < 2 and items[39] not in names:
                    a_of_first += sorted(names)
    assert sorted(a_of_first) == sorted(items[:35])
    again = Groups(Pairs.of(data, spec), config).batches(3)
    np.testing.assert_array_equal(again[0]["index"], groups.batches(3)[0]["index"])


def test_users_with_a_single_item_are_refused(encoder, films):
    lonely = tm.Interactions.from_arrays(["a", "b"], ["war1", "war2"], items=films.items)
    spec = tm.FeatureSpec().fit(lonely)
    with pytest.raises(ValueError, match="No user has two items"):
        fine_tuned(encoder, lonely, spec, ["title"], progress=False)
    with pytest.raises(ValueError, match="`columns` has 'plot'"):
        fine_tuned(encoder, films, tm.FeatureSpec().fit(films), ["plot"], progress=False)
