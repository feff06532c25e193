"""Meta-learning: tasks, episodes, outer loops that train on them, and cold-start evaluation.

The learners of the inner loop (MAML and others) are in `tfrec_meta.models.adaptation`.
"""

from tfrec_meta.metalearning.episodes import EpisodeConfig, Episodes
from tfrec_meta.metalearning.rankers import predict_events
from tfrec_meta.metalearning.tasks import (
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
    "predict_events",
    "user_tasks",
    "window_tasks",
]
