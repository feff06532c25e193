import numpy as np
import pytest
import scipy.sparse as sp

from tfrec_meta.evaluation import ranking


def ignore(part, block):
    """Work that does nothing."""


def ranks_by_definition(block, row, item):
    above = [(block[r] > block[r, i]).sum() for r, i in zip(row, item, strict=True)]
    tied = [(block[r] == block[r, i]).sum() for r, i in zip(row, item, strict=True)]
    return np.array(above) + (np.array(tied) + 1) / 2


@pytest.mark.parametrize("pairs", [1, 7, 40, 500])  # few pairs: counting; many: sorting
@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 64, 101])
def test_rank_is_one_plus_the_scores_above_and_ties_share_the_mean(pairs, width):
    generator = np.random.default_rng(width)
    block = generator.integers(0, 12, (20, width)).astype(np.float32)
    row, item = generator.integers(0, 20, pairs), generator.integers(0, width, pairs)
    expected = ranks_by_definition(block, row, item)
    np.testing.assert_array_equal(ranking.tied_ranks(block, row, item), expected)


def test_one_pair_per_row_in_order():
    block = np.array([[3, 1, 2], [5, 5, 4]], np.float32)
    assert ranking.tied_ranks(block, np.arange(2), np.array([2, 0])).tolist() == [2, 1.5]


def test_masked_scores_rank_below_the_lowest():
    block = np.array([[-np.inf, -9, -np.inf, -9, 0]], np.float32)
    row = np.zeros(3, int)
    for pairs in (1, 3):
        ranks = ranking.tied_ranks(block.copy(), row[:pairs], np.array([1, 3, 4])[:pairs])
        assert ranks.tolist() == [2.5, 2.5, 1][:pairs]


def test_top_items_are_ordered_by_score_then_index_and_padded_at_the_end():
    block = np.array([[1, 3, 2, 3], [-np.inf, 7, -np.inf, -np.inf], [0, 0, 0, 0]], np.float32)
    assert ranking.top_items(block, 3).tolist() == [[1, 3, 2], [1, -1, -1], [0, 1, 2]]
    assert ranking.top_items(block, 4)[0].tolist() == [1, 3, 2, 0]
    with pytest.raises(ValueError, match="`k`=5"):
        ranking.top_items(block, 5)


def test_mask_hides_exactly_the_entries_of_the_given_rows():
    seen = sp.csr_array(np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]]))
    block = np.zeros((3, 3), np.float32)
    ranking.mask_entries(block, np.array([2, 1, 0]), seen)
    assert np.isinf(block).tolist() == [[False, True, False], [False] * 3, [True, False, True]]
    ranking.mask_entries(block[:0], np.array([], int), seen)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100, None])
def test_blocks_cover_the_given_rows(chunk):
    generator = np.random.default_rng(0)
    queries = generator.random((9, 4), np.float32)
    candidates = generator.random((5, 4), np.float32)
    rows = np.array([8, 1, 2, 5, 0])
    expected = queries[rows] @ candidates.T

    def function(asked):
        return queries[asked] @ candidates.T

    for scores in ((queries, candidates), function):
        seen = np.full((5, 5), np.nan)

        def work(part, block, seen=seen):
            seen[part] = block
            block[:] = -1  # the work's to change

        ranking.for_each_block(scores, rows, 5, work, chunk)
        np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_matrix_of_a_score_function_is_not_changed():
    matrix = np.ones((3, 2), np.float32)

    def work(part, block):
        block[:] = 0

    ranking.for_each_block(lambda rows: matrix[: len(rows)], np.arange(3), 2, work)
    assert (matrix == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_error_for_non_finite_scores_names_the_query(bad):
    def scores(rows):
        block = np.zeros((len(rows), 3), np.float32)
        block[rows == 6, 1] = bad
        return block

    with pytest.raises(ValueError, match=f"query 6 .* item 1 has {bad}"):
        ranking.for_each_block(scores, np.array([4, 6]), 3, ignore)


def test_error_for_non_finite_embeddings_names_the_row():
    good, bad = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match="`queries` has nan in row 2, column 1"):
        ranking.for_each_block((bad, good), np.arange(3), 3, ignore)
    with pytest.raises(ValueError, match=r"`candidates` has .* in row 2"):
        ranking.for_each_block((good, bad), np.arange(3), 3, ignore)


def test_error_for_overflowing_products_names_the_query():
    queries = np.array([[1, 1], [3e38, 3e38]], np.float32)
    with pytest.raises(ValueError, match="scores of query 1 are not finite"):
        ranking.for_each_block((queries, np.ones((2, 2), np.float32)), np.arange(2), 2, ignore)


def test_mismatched_shapes_are_refused():
    with pytest.raises(ValueError, match=r"returned shape \(2, 4\)"):
        ranking.for_each_block(lambda rows: np.zeros((2, 4)), np.arange(2), 3, ignore)
    with pytest.raises(ValueError, match=r"`queries` has shape \(2, 4\)"):
        ranking.for_each_block((np.zeros((2, 4)), np.zeros((3, 5))), np.arange(2), 3, ignore)
    with pytest.raises(ValueError, match="`chunk`=0"):
        ranking.rows_per_block(5, 0)


def test_one_thread_is_used_without_threadpoolctl(monkeypatch):
    monkeypatch.setattr(ranking, "_thread_controller", lambda: None)
    seen = []
    ranking.for_each_block(
        (np.eye(3), np.eye(3)), np.arange(3), 3, lambda part, block: seen.append(part), 1
    )
    assert seen == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_error_in_a_thread_is_raised_by_the_caller():
    def work(part, block):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        ranking.for_each_block((np.eye(3), np.eye(3)), np.arange(3), 3, work, 1)


@pytest.mark.parametrize("width, dimension", [(50, 7), (1682, 32), (1683, 33)])
def test_equal_candidates_tie_at_any_position(width, dimension):
    generator = np.random.default_rng(0)
    queries = generator.standard_normal((40, dimension)).astype(np.float32)
    kinds = generator.standard_normal((3, dimension)).astype(np.float32)
    kind = generator.integers(0, 3, width)
    kinds[2, 0] = 0.0
    candidates = kinds[kind]
    candidates[(kind == 2) & (np.arange(width) % 2 == 0), 0] = -0.0  # equal, though not in its bits

    def work(part, block):
        for column in range(3):
            assert len(np.unique(block[0, kind == column])) == 1

    for chunk in (None, 1, 3, 16):
        ranking.for_each_block((queries, candidates), np.arange(40), width, work, chunk)


def test_repeated_rows_and_only_those_are_found():
    items = np.array([[1, 2], [2, 1], [1, 2], [0, 5], [-0.0, 5], [1, 2]], np.float32)
    repeats, originals = ranking._repeats(items)  # [1, 2] and [2, 1] have one sum
    assert repeats.tolist() == [2, 4, 5]
    assert originals.tolist() == [0, 3, 0]
    assert len(ranking._repeats(np.eye(3, dtype=np.float32))[0]) == 0
