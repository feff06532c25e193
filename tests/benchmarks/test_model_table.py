import pytest

import tfrec_meta as tm
from benchmarks import model_table
from benchmarks.model_table import Measured, markdown, with_table
from tfrec_meta.evaluation.intervals import Estimate
from tfrec_meta.models import FAMILIES


def test_every_family_has_a_row_and_every_teacher_comes_first():
    assert {strategy.family for strategy in model_table.STRATEGIES.values()} == set(FAMILIES)
    order = list(model_table.STRATEGIES)
    for student, teacher in model_table.TEACHERS.items():
        assert order.index(teacher) < order.index(student)


def test_the_best_of_the_stratified_split_comes_first():
    worse = Measured(Estimate(0.25, 0.2, 0.3), Estimate(0.1), 1.25, 0.04)
    better = Measured(Estimate(0.5, 0.45, 0.55), Estimate(0.2), 12.0, 3.0)
    table = markdown({"a": worse, "b": better}, {"a": better, "b": worse}).splitlines()
    assert table[2] == (
        "| b | 0.5000 [0.4500, 0.5500] | 0.2000 | 0.2500 [0.2000, 0.3000] | 0.1000 | 12.0 | 3.0 |"
    )
    assert table[3].startswith("| a | 0.2500")


def test_the_table_goes_between_its_markers_and_nothing_else_changes():
    page = (
        "a\n<!-- results: other -->\nx\n<!-- end of results -->\nb\n"
        "<!-- results: model_table -->\nold \\1\n<!-- end of results -->\nc"
    )
    expected = page.replace("\nold \\1\n", "\n\nnew \\2\n\n")
    assert with_table(page, "new \\2") == expected
    assert with_table(expected, "new \\2") == expected
    with pytest.raises(ValueError, match="no lines"):
        with_table("nothing", "new")


def test_what_is_measured_is_the_trained_and_saved_model():
    data = tm.synthetic(users=60, items=30, interactions=900, seed=3)
    split = tm.split_by_item(data, train=0.75, seed=1)
    model, found = model_table.measure(split, tm.Strategy("ials"), None, 20)
    assert model.family == "ials"
    assert 0 < found.ndcg.low < found.ndcg.value < found.ndcg.high
    # 30 items of 30 factors, their Gram matrix, counts and vocabularies: some kilobytes.
    assert 0.005 < found.megabytes < 0.1
    assert found.seconds > 0
