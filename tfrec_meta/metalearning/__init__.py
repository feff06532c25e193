"""Meta-learning: episodes, and learners that adapt to the support set of each.

`episodes` makes tasks of interactions and draws support and query sets from them, `learners` has
MAML and kin behind one interface, and `networks` has what they adapt.
"""

from tfrec_meta.metalearning.episodes import (
    EpisodeConfig,
    Episodes,
    Tasks,
    category_tasks,
    item_tasks,
    user_tasks,
    window_tasks,
)
from tfrec_meta.models.adaptation.learners import LEARNERS, Examples, Learner, LearnerConfig
from tfrec_meta.models.adaptation.networks import TaskNetwork

__all__ = [
    "LEARNERS",
    "EpisodeConfig",
    "Episodes",
    "Examples",
    "Learner",
    "LearnerConfig",
    "TaskNetwork",
    "Tasks",
    "category_tasks",
    "item_tasks",
    "user_tasks",
    "window_tasks",
]
