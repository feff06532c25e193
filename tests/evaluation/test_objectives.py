"""Objectives: names, directions and scores."""

import math

from tfrec_meta.evaluation.objectives import Objective


def test_names_are_those_of_curves_and_studies():
    assert [str(one) for one in Objective] == ["val_ndcg@10", "val_auc", "val_rmse"]


def test_only_the_error_is_minimised():
    assert [one.direction for one in Objective] == ["max", "max", "min"]


def test_a_higher_score_is_better():
    assert Objective.NDCG.score(0.25) == 0.25
    assert Objective.AUC.score(0.75) == 0.75
    assert Objective.RMSE.score(1.5) == -1.5


def test_nan_is_the_worst_score():
    assert all(one.score(math.nan) == -math.inf for one in Objective)
