"""What meta-learning adds to a family: one entry per family that has an outer loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tfrec_meta.metalearning.cold_users import SupportScores, fine_tuned_scores
from tfrec_meta.metalearning.rankers import learn_start
from tfrec_meta.metalearning.recommender import learn_to_adapt


class OuterLoop(NamedTuple):
    """The meta-training of a family.

    Attributes:
        train: called with the fitted model, the training data and a seed; changes the model.
        fine_tuned_scores: called with the model, a number of gradient steps and a learning rate;
            returns the method that meta-learning is compared with. None if the family has none.
    """

    train: Callable[[Any, Any, int], Any]
    fine_tuned_scores: Callable[[Any, int, float], SupportScores] | None = None


OUTER_LOOPS: Mapping[str, OuterLoop] = {
    "meta_learned": OuterLoop(learn_to_adapt, fine_tuned_scores),
    "meta_ranker": OuterLoop(learn_start),
}
"""The outer loop of each family that has one, by the name of the family."""
