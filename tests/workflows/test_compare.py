"""Comparisons of two runs. tests/commands/test_compare.py has the command."""

import dataclasses

import pytest

import tfrec_meta as tm
from tfrec_meta.workflows.compare import compare_runs
from tfrec_meta.workflows.runs import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the data of the runs."""
    folder = tmp_path_factory.mktemp("compare")
    tm.synthetic(users=40, items=20, interactions=300, seed=1).write(folder / "log")
    return folder


@pytest.fixture(scope="module")
def popular(folder):
    return trained(folder, "popular")


def trained(folder, name, family="popularity", split="item", **settings):
    """A trained run of the data."""
    given = {
        "data": {"source": [str(folder / "log")]},
        "split": {"protocol": split},
        "strategy": {"family": family},
    }
    run = Run.begin(folder / name, {**given, **settings})
    run.train()
    return run


def test_the_differences_are_those_of_the_evaluations(folder, popular):
    ease = trained(folder, "ease", "ease")
    found = compare_runs(ease, popular, k=5, resamples=20)
    assert list(found.evaluations) == ["ease", "popular"]
    split = popular.split
    one, other = (
        tm.evaluate(run.model(), split, k=5, baselines=[], resamples=20)[family]
        for run, family in ((ease, "ease"), (popular, "popularity"))
    )
    expected = dataclasses.asdict(tm.compare(one, other, "ndcg@5", resamples=20))
    assert expected.pop("metric") == "ndcg@5"
    compared = dataclasses.asdict(found.differences["ndcg@5"])
    assert {key: compared[key] for key in expected} == pytest.approx(expected)
    assert found.evaluations["ease"].as_dict() == one.as_dict()


def test_runs_with_other_seeds_are_compared_if_their_events_are_the_same(folder):
    runs = [trained(folder, f"by_time_{seed}", split="time", seed=seed) for seed in (1, 2)]
    found = compare_runs(*runs, k=5, resamples=5)
    assert found.differences["ndcg@5"].difference == 0


def test_other_test_events_are_refused_with_the_settings_that_differ(folder, popular):
    for name, settings, difference in (
        ("seed", {"seed": 7}, r"The settings differ in seed=42 and 7\."),
        ("time", {"split": "time"}, "split.protocol='item' and 'time'"),
    ):
        other = trained(folder, name, **settings)
        with pytest.raises(ValueError, match=f"their test events differ .*{difference}"):
            compare_runs(popular, other)


def test_another_past_of_the_same_test_events_is_refused(folder, popular):
    # Both hold out the same events, but one knows an event less before them.
    split = popular.split
    run = Run(trained(folder, "shorter").folder, {**popular.settings, "seed": 7})
    vars(run)["split"] = dataclasses.replace(split, train_index=split.train_index[1:])
    with pytest.raises(ValueError, match="their past events differ"):
        compare_runs(popular, run)


def test_runs_that_rank_other_items_are_refused_unless_both_rank_the_history(folder, popular):
    again = trained(folder, "again", recommend_history=True)
    with pytest.raises(ValueError, match=r"recommend_history=False and .*again True"):
        compare_runs(popular, again)
    found = compare_runs(popular, again, k=5, resamples=5, recommend_history=True)
    assert all(one.recommend_history for one in found.evaluations.values())


def test_impossible_comparisons_are_refused(folder, popular):
    with pytest.raises(ValueError, match="twice; compare two runs"):
        compare_runs(popular, Run.open(popular.folder))
    begun = Run.begin(folder / "begun", popular.settings)
    with pytest.raises(FileNotFoundError, match="has no model yet"):
        compare_runs(popular, begun)
    for wrong in ({"k": 0}, {"resamples": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`=0"):
            compare_runs(popular, begun, **wrong)
