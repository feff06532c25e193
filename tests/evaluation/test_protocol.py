import json
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from tfrec_meta.evaluation import (
    METRICS,
    Evaluation,
    Group,
    compare,
    format_table,
    full_catalogue,
    top_k,
    top_k_accuracy,
    true_candidate_ranks,
)

# Three users, five items. User 0 saw item 0; of the rest the order is 3, 1, 2, 4.
SCORES = np.array([[9, 3, 2, 4, 1], [1, 1, 1, 1, 1], [5, 4, 3, 2, 1]], np.float32)
SEEN = sp.csr_array(np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]))
RELEVANT = sp.csr_array(np.array([[0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]))


def rows(index):
    return SCORES[index]


def test_metrics_of_a_small_example_computed_by_hand():
    e = full_catalogue(rows, RELEVANT, SEEN, k=2)
    assert e.queries.tolist() == [0, 1]  # user 2 has nothing relevant
    # User 0: ranks 2 and 4 of 4. User 1: three candidates tied at rank 2.
    discount, ideal = 1 / np.log2(3), 1 + 1 / np.log2(3)
    expected = {
        "ndcg@2": [discount / ideal, discount],
        "recall@2": [1 / 2, 1],
        "hr@2": [1, 1],
        "precision@2": [1 / 2, 1 / 2],
        "map@2": [1 / 4, 1 / 2],
        "mrr@2": [1 / 2, 1 / 2],
        # User 0: below rank 2 is one irrelevant of two, below rank 4 none.
        "auc": [1 / 4, 1 / 2],
        # Popularity 2, 1, 0, 0, 0. Lists (3, 1) and (2, 3): means 1/2 and 0; profiles 2 and 3/2.
        "popularity_lift@2": [(0.5 - 2) / 1.75, (0 - 1.5) / 1.75],
    }
    assert set(e.per_query) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(e.per_query[name], values, err_msg=name)
        assert e[name].value == pytest.approx(np.mean(values))
    assert e["coverage@2"].value == 3 / 5
    assert e["coverage@2"].low is None
    assert e.counts == {"queries": 2, "candidates": 5, "relevant": 3, "outside": 0, "seen": 0}


def random_case(users=60, items=45, seed=0):
    generator = np.random.default_rng(seed)
    queries = generator.standard_normal((users, 6)).astype(np.float32)
    candidates = generator.standard_normal((items, 6)).astype(np.float32)
    group = generator.choice(4, (users, items), p=[0.7, 0.15, 0.15, 0])
    return queries, candidates, sp.csr_array(group == 1), sp.csr_array(group == 2)


def test_embeddings_and_a_function_agree_for_every_chunk():
    queries, candidates, relevant, seen = random_case()
    reference = full_catalogue(lambda r: queries[r] @ candidates.T, relevant, seen)
    for chunk in (1, 7, None):
        e = full_catalogue((queries, candidates), relevant, seen, chunk=chunk)
        for name in METRICS:
            name = name if name == "auc" else f"{name}@10"
            assert e[name].value == pytest.approx(reference[name].value, rel=1e-6)
            if not name.startswith("coverage"):
                assert e[name].low == pytest.approx(reference[name].low, rel=1e-6)


def test_agrees_with_sorting_each_user_in_plain_python():
    queries, candidates, relevant, seen = random_case()
    e = full_catalogue((queries, candidates), relevant, seen, k=5, resamples=0)
    for place, user in enumerate(e.queries):
        hidden = set(seen[[user]].indices)
        wanted = set(relevant[[user]].indices)
        scores = candidates @ queries[user]
        order = [i for i in np.argsort(-scores) if i not in hidden]
        hits = [i in wanted for i in order[:5]]
        dcg = sum(hit / np.log2(2 + at) for at, hit in enumerate(hits))
        ideal = sum(1 / np.log2(2 + at) for at in range(min(5, len(wanted))))
        assert e.per_query["ndcg@5"][place] == pytest.approx(dcg / ideal)
        assert e.per_query["recall@5"][place] == pytest.approx(sum(hits) / len(wanted))
        pairs = [(scores[i] > scores[j]) for i in wanted for j in order if j not in wanted]
        assert e.per_query["auc"][place] == pytest.approx(np.mean(pairs))


def test_relevant_items_outside_the_catalogue_are_misses():
    e = full_catalogue(rows, RELEVANT, SEEN, k=2, extra_relevant=[2, 0, 1])
    assert e.queries.tolist() == [0, 1, 2]
    np.testing.assert_allclose(e.per_query["recall@2"], [1 / 4, 1, 0])
    assert e.per_query["auc"][2] == 0
    assert e.counts["outside"] == 3
    assert "3 of the relevant pairs have items outside" in str(e)


def test_relevant_items_that_were_seen_are_counted_as_misses():
    relevant = sp.csr_array(np.array([[1, 0, 0, 1, 0], [0] * 5, [0] * 5]))
    e = full_catalogue(rows, relevant, SEEN, k=2)
    np.testing.assert_allclose(e.per_query["recall@2"], [1 / 2])
    assert e.counts["seen"] == 1
    assert "1 of the relevant pairs have seen items" in str(e)


def test_without_seen_items_all_are_candidates_and_popularity_lift_is_refused():
    e = full_catalogue(rows, RELEVANT, k=2)
    assert "popularity_lift@2" not in e.metrics
    assert e.per_query["mrr@2"].tolist() == [0, 0]
    with pytest.raises(ValueError, match="pass `seen`"):
        full_catalogue(rows, RELEVANT, k=2, metrics=["popularity_lift"])


def test_explicit_zeros_and_repeated_entries_do_not_count():
    relevant = sp.coo_array(([1, 2, 0], ([0, 0, 0], [1, 1, 4])), shape=(3, 5))
    e = full_catalogue(rows, relevant, SEEN, k=2)
    assert e.counts["relevant"] == 1


def test_metrics_can_be_chosen_and_keep_their_order():
    e = full_catalogue(rows, RELEVANT, SEEN, k=1, metrics=["coverage", "recall"])
    assert list(e.metrics) == ["coverage@1", "recall@1"]
    assert list(full_catalogue(rows, RELEVANT, k=1, metrics="coverage").metrics) == ["coverage@1"]


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="`k`=6, but the catalogue has 5"):
        full_catalogue(rows, RELEVANT, k=6)
    with pytest.raises(ValueError, match="'ndgc'"):
        full_catalogue(rows, RELEVANT, metrics=["ndgc"], k=2)
    with pytest.raises(ValueError, match="`relevant` is empty"):
        full_catalogue(rows, sp.csr_array((3, 5)), k=2)
    with pytest.raises(ValueError, match=r"`seen` has shape \(2, 5\)"):
        full_catalogue(rows, RELEVANT, SEEN[:2], k=2)
    with pytest.raises(ValueError, match="`relevant` is a ndarray"):
        full_catalogue(rows, RELEVANT.toarray(), k=2)
    with pytest.raises(ValueError, match="`extra_relevant`"):
        full_catalogue(rows, RELEVANT, k=2, extra_relevant=[1])
    with pytest.raises(ValueError, match=r"query 1 .* nan"):
        full_catalogue(lambda r: np.where(r[:, None] == 1, np.nan, SCORES[r]), RELEVANT, k=2)


def test_inputs_are_not_changed():
    queries, candidates, relevant, seen = random_case()
    before = relevant.toarray(), seen.toarray(), queries.copy()
    full_catalogue((queries, candidates), relevant, seen)
    for kept, now in zip(before, (relevant.toarray(), seen.toarray(), queries), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_compare_pairs_users():
    queries, candidates, relevant, seen = random_case(users=200)
    good = full_catalogue(lambda r: relevant[r].toarray() + 0.0, relevant, seen)
    random = full_catalogue((queries, candidates), relevant, seen)
    difference = compare(good, random, "ndcg@10")
    assert difference.difference == pytest.approx(good["ndcg@10"].value - random["ndcg@10"].value)
    assert difference.low > 0
    assert difference.p < 0.01
    other = full_catalogue((queries[:9], candidates), relevant[:9], seen[:9])
    with pytest.raises(ValueError, match="they differ"):
        compare(good, other)
    with pytest.raises(ValueError, match="`a` has no 'coverage@10'"):
        compare(good, random, "coverage@10")


def test_json_and_text_have_the_same_values():
    e = full_catalogue(rows, RELEVANT, SEEN, k=2)
    plain = json.loads(e.to_json())
    assert plain["metrics"]["recall@2"]["value"] == e["recall@2"].value
    assert plain["metrics"]["coverage@2"] == {"value": 0.6, "low": None, "high": None}
    assert plain["counts"]["queries"] == 2
    assert "recall@2" in str(e)
    assert "0.7500   0.5000 to 1.0000" in str(e)
    table = format_table({"ours": e, "other": full_catalogue(rows, RELEVANT, k=2)})
    assert table.splitlines()[0].split()[:2] == ["model", "ndcg@2"]
    assert table.splitlines()[2].endswith("-")  # no popularity lift without `seen`
    with pytest.raises(KeyError, match="No metric 'ndcg@10'"):
        e["ndcg@10"]


def test_top_k_returns_items_and_scores():
    items, scores = top_k(rows, [0, 1], k=4, seen=SEEN)
    assert items.tolist() == [[3, 1, 2, 4], [2, 3, 4, -1]]
    assert scores.tolist() == [[4, 3, 2, 1], [1, 1, 1, -np.inf]]
    items, _ = top_k((np.eye(2), np.eye(2)), [1], k=1)
    assert items.tolist() == [[1]]
    with pytest.raises(ValueError, match="`candidates` is missing"):
        top_k(rows, [0], k=1)


def test_true_candidate_ranks_score_a_repeated_query_once_and_keep_the_row_order():
    generator = np.random.default_rng(3)
    queries = generator.standard_normal((30, 4)).astype(np.float32)
    candidates = generator.standard_normal((17, 4)).astype(np.float32)
    asks, true = generator.integers(0, 30, 500), generator.integers(0, 17, 500)
    scores = queries @ candidates.T
    expected = 1 + (scores[asks] > scores[asks, true][:, None]).sum(axis=1)
    for chunk in (None, 4):
        ranks = true_candidate_ranks(queries, candidates, true, asks, chunk=chunk)
        np.testing.assert_array_equal(ranks, expected)
    np.testing.assert_array_equal(
        true_candidate_ranks(queries, candidates, true[:30]),
        1 + (scores > scores[np.arange(30), true[:30]][:, None]).sum(1),
    )


def test_true_candidate_ranks_refuse_rows_out_of_range():
    with pytest.raises(ValueError, match="`true_index` has values from 0 to 2"):
        true_candidate_ranks(np.eye(2), np.eye(2), [0, 2])
    with pytest.raises(ValueError, match="`query_index` has values from 0 to 1"):
        true_candidate_ranks(np.ones((1, 2)), np.eye(2), [0, 1])


def test_top_k_accuracy():
    assert top_k_accuracy([1, 2.5, 7], ks=(1, 3)) == {1: 1 / 3, 3: 2 / 3}


# Scores fall with the item's number. Query 0 had items 0 and 2, query 1 nothing, query 2 item 4.
PAST = sp.csr_array(np.array([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]))
LATER = sp.csr_array(np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]))
KNOWN = np.array([True, False, True])


def falling(rows):
    return np.tile(np.arange(5, 0, -1, dtype=np.float32), (len(rows), 1))


def by_groups(**options):
    return full_catalogue(
        falling, LATER, PAST, k=2, metrics=["recall", "mrr"], known=KNOWN, resamples=0, **options
    )


def test_groups_of_users_and_items_are_measured_apart():
    found = by_groups(recommend_history=True)
    # All items are candidates, so that item i has rank i + 1: relevant ranks 1 and 4; 2; 5.
    assert found["recall@2"].value == pytest.approx((1 / 2 + 1 + 0) / 3)
    values = {g.value: one.metrics["recall@2"].value for g, one in found.groups.items()}
    assert values == {
        "known_users": pytest.approx((1 / 2 + 0) / 2),
        "new_users": 1.0,
        "repeat_items": pytest.approx((1 + 0) / 2),  # item 0 of query 0, item 4 of query 2
        "new_items": pytest.approx((0 + 1) / 2),  # item 3 of query 0, item 1 of query 1
    }
    counts = {group.value: one.counts for group, one in found.groups.items()}
    assert counts == {
        "known_users": {"queries": 2, "relevant": 3},
        "new_users": {"queries": 1, "relevant": 1},
        "repeat_items": {"queries": 2, "relevant": 2},
        "new_items": {"queries": 2, "relevant": 2},
    }
    assert found.counts["seen"] == 0
    per_query = {g.value: one.per_query["recall@2"] for g, one in found.groups.items()}
    nan = np.nan
    np.testing.assert_allclose(per_query["known_users"], [1 / 2, nan, 0])
    np.testing.assert_allclose(per_query["new_users"], [nan, 1, nan])
    np.testing.assert_allclose(per_query["repeat_items"], [1, nan, 0])
    np.testing.assert_allclose(per_query["new_items"], [0, 1, nan])


def test_repeat_items_are_misses_if_the_history_is_not_recommended():
    found = by_groups()
    # Query 0: candidates 1, 3, 4, so that item 3 has rank 2.
    assert found["recall@2"].value == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["mrr@2"].value == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    groups = found.groups
    assert groups[Group.REPEAT_ITEMS].metrics["recall@2"].value == 0
    assert groups[Group.REPEAT_ITEMS].counts == {"queries": 2, "relevant": 2}
    assert groups[Group.NEW_ITEMS].metrics["recall@2"].value == 1
    assert found.counts["seen"] == 2


def test_items_outside_of_the_catalogue_are_repeat_or_new_items():
    found = by_groups(extra_relevant=[1, 2, 0], extra_repeat=[1, 0, 0])
    counts = {group: one.counts["relevant"] for group, one in found.groups.items()}
    assert counts[Group.REPEAT_ITEMS] == 2 + 1
    assert counts[Group.NEW_ITEMS] == 2 + 2
    assert counts[Group.KNOWN_USERS] + counts[Group.NEW_USERS] == found.counts["relevant"]
    with pytest.raises(ValueError, match="`extra_repeat`"):
        by_groups(extra_relevant=[1, 0, 0], extra_repeat=[2, 0, 0])


def test_an_empty_group_has_counts_and_no_values():
    found = full_catalogue(falling, LATER, PAST, k=2, known=np.ones(3, bool))
    new = found.groups[Group.NEW_USERS]
    assert new.counts == {"queries": 0, "relevant": 0}
    assert np.isnan(new.metrics["ndcg@2"].value)
    assert "new users" in str(found)
    again = Evaluation.from_dict(json.loads(found.to_json()))
    assert again.as_dict() == found.as_dict()
    known = found.groups[Group.KNOWN_USERS].metrics["ndcg@2"]
    assert known == found["ndcg@2"]  # the same users, resampled in the same way


@pytest.mark.parametrize("known", [[True], [1, 0, 1], np.ones((3, 1), bool)])
def test_known_users_are_one_boolean_per_query(known):
    with pytest.raises(ValueError, match="`known` has shape"):
        full_catalogue(falling, LATER, PAST, k=2, known=known)


def test_a_user_who_has_seen_everything_counts_as_a_miss():
    everything = sp.csr_array(np.ones((3, 5)))
    found = full_catalogue(falling, LATER, everything, k=2, known=np.ones(3, bool), resamples=0)
    assert found["ndcg@2"].value == 0
    assert np.isnan(found["auc"].value)
    assert found.counts["seen"] == found.counts["relevant"] == 4


@pytest.mark.parametrize("k", [0, -1, 6, 10**30, 2.5, True, "2", None])
def test_refuses_a_length_that_no_list_can_have(k):
    with pytest.raises((ValueError, TypeError), match="`k`="):
        full_catalogue(rows, RELEVANT, SEEN, k=k)


def test_lists_as_long_as_the_catalogue_take_no_memory():
    users, items = 4_000, 1_000  # lists of all items would take 32 MB
    rng = np.random.default_rng(0)
    relevant = sp.csr_array((np.ones(users), (np.arange(users), np.arange(users) % items)))
    seen = sp.csr_array((np.ones(users), (np.arange(users), (np.arange(users) + 1) % items)))
    scores = rng.normal(size=(users, 4)), rng.normal(size=(items, 4))
    tracemalloc.start()
    try:
        found = full_catalogue(*(scores, relevant, seen), k=items, chunk=16, resamples=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6
    assert found[f"recall@{items}"].value == 1
    assert found[f"coverage@{items}"].value == 1
    # All items but one: the mean popularity of the lists is that of all items, 4.
    np.testing.assert_allclose(found.per_query[f"popularity_lift@{items}"], 0, atol=1e-12)
