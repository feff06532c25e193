"""Makes and fits a model of any family, with its teacher and its members where it has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import training
from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.content.text_vectors import teacher_features, text_columns, with_text_vectors
from tfrec_meta.data import Interactions, Split, StreamedInteractions
from tfrec_meta.distillation import FineTuningConfig, fine_tuned
from tfrec_meta.features import FeatureSpec
from tfrec_meta.metalearning.rankers import learn_start
from tfrec_meta.metalearning.recommender import learn_to_adapt
from tfrec_meta.models import (
    FAMILIES,
    Composite,
    ContentTowerConfig,
    MetaLearned,
    MetaRanker,
    Recommender,
)
from tfrec_meta.models.base.contract import Teacher
from tfrec_meta.strategy import BERT, Strategy
from tfrec_meta.training import OnEpoch, TrainingConfig
from tfrec_meta.training.distribution import distribution_strategy


def train(
    data: Interactions | StreamedInteractions | Split,
    strategy: Strategy | str = Strategy(),
    *,
    validation: Interactions | training.Validation | None = None,
    folder: Path | str | None = None,
    progress: bool = True,
    features: FeatureSpec | None = None,
    warm_start: Recommender | None = None,
    teacher: Teacher | None = None,
    on_epoch: OnEpoch | None = None,
) -> Recommender:
    """Makes and fits a model.

    Args:
        data: training events, in memory or streamed, or a Split, whose train and validation parts
            are used.
        strategy: how; a family name means that family with its defaults.
        validation: events for early stopping; without them all epochs are run.
        folder: for checkpoints and TensorBoard logs; the same call resumes what was killed.
        progress: whether to show it.
        features: a fitted spec, taken as it is; by default the strategy's is fitted on the data,
            or with a warm start the earlier model's grows by what is new.
        warm_start: an earlier model of the same family and shape, with whose weights training
            begins: rows are matched by token, so that what is known keeps its embedding, wherever
            its row is now, and what is new begins anew.
        teacher: a fitted model, as an ensemble, or another `models.contract.Teacher`, whose scores
            of the whole catalogue the new one is to learn beside the events: distillation, which
            "two_tower" and "content_tower" with `negatives`="full" can. A strategy may have one of
            its own, which is fitted first.
        on_epoch: told of each epoch, with the model and that epoch's line of its curve; what it
            raises ends the training. Of an ensemble or a two-stage model, of its members' epochs.

    Returns:
        The fitted model; its `curve` holds one dict an epoch.

    Raises:
        ValueError: if there are no events, `features` is not fitted, or the earlier model is of
            another family or shape, or the model can't learn from that teacher, or has two.
    """
    if isinstance(strategy, str):
        strategy = Strategy(strategy)
    if teacher is not None and strategy.teacher is not None:
        raise ValueError(
            f"The strategy has a teacher of its own, {strategy.teacher!r}. Leave out `teacher`, or "
            "use `dataclasses.replace(strategy, teacher=None)`."
        )
    if isinstance(data, Split):
        validation = data.validation if validation is None else validation
        data = data.train
    if not isinstance(data, Interactions | StreamedInteractions):
        raise TypeError(
            f"`data` is a {type(data).__name__}; give Interactions, a Split, or what "
            "`stream_interactions` gave."
        )
    if not len(data):
        raise ValueError("There are no events to train on. Check the split.")
    distribution = distribution_strategy(
        strategy.training.distribute
    )  # first: TensorFlow may not have begun
    training.seed_everything(strategy.training.seed)
    if features is None:
        features = fitted_features(strategy, data, warm_start)
    if strategy.teacher is not None:
        if strategy.teacher == BERT:
            teacher = text_teacher(data, features, seed=strategy.training.seed, progress=False)
        else:
            of_teacher = Strategy(strategy.teacher, training=strategy.training)
            teacher = train(data, of_teacher, progress=False, features=features)
        training.seed_everything(strategy.training.seed)  # as with a teacher that was there before
    family: Any = FAMILIES[strategy.family]
    with distribution.scope():
        model: Recommender = family(strategy.model, features)
    if isinstance(model, Composite):
        # Both refuse: better before the members take their time.
        if warm_start is not None:
            model.warm_start(warm_start)
        if teacher is not None:
            model.teach(teacher)
        model.unite(
            [
                train(
                    data,
                    member,
                    validation=validation,
                    folder=None if folder is None else Path(folder) / "members" / str(place),
                    progress=progress,
                    features=features,
                    on_epoch=on_epoch,
                )
                for place, member in enumerate(strategy.members())
            ]
        )
    curve = training.fit(
        model,
        data,
        validation,
        strategy.training,
        folder,
        progress,
        warm_start,
        teacher,
        on_epoch,
    )
    if isinstance(model, MetaLearned) and isinstance(data, Interactions):
        learn_to_adapt(model, data, strategy.training.seed)
    if isinstance(model, MetaRanker) and isinstance(data, Interactions):
        learn_start(model, data, strategy.training.seed)
    # Not by plain assignment: TensorFlow would wrap the list and track it as a part of the model.
    object.__setattr__(model, "curve", tuple(curve))
    return model


TEXT_TEACHER = Strategy(
    "content_tower",
    ContentTowerConfig(temperature=0.1, dropout=0.6),
    TrainingConfig(epochs=15, batch_size=4096, learning_rate=0.003),
)
"""How a text teacher is trained: as did best on validation items of MovieLens-100K that training
never met."""
TEXT_TUNING = FineTuningConfig(
    "lora_everywhere", epochs=1, batch_size=128, max_steps=6, learning_rate=1e-3, dropout=0.1
)
"""How its BERT is tuned on events, if it is: few steps of many users each, as did best on films of
MovieLens-100K that training never met; it takes a minute or two. With more, the vectors of items
that have events are fitted to these, and tell the tower too little of those that have none."""


def text_teacher(
    data: Interactions | StreamedInteractions | Split,
    features: FeatureSpec,
    *,
    encoder: BertEncoder | None = None,
    columns: Sequence[str] = (),
    strategy: Strategy = TEXT_TEACHER,
    tuning: FineTuningConfig | None = None,
    seed: int | None = None,
    folder: Path | str | None = None,
    progress: bool = True,
) -> Recommender:
    """A content tower over what a BERT makes of the items' texts, in place of their words.

    The vectors are made once, before training, which learns what to make of them. With `tuning`,
    the BERT's own weights learn before that who chooses which texts together (`fine_tuned`).

    Args:
        data: training events, or a Split, whose train and validation parts are used.
        features: fitted, of the students to come; all but the texts the teacher has as well.
        encoder: of texts; by default the packaged MiniLM.
        columns: of the items table, that make up a text; by default the texts among `features`.
        strategy: of a "content_tower".
        tuning: how the BERT is tuned on the training events, as `TEXT_TUNING`; None leaves it as it
            is.
        seed: of its training, in place of the strategy's.
        folder: for checkpoints, those of the tuning in `bert` below it.
        progress: whether to show it.

    Raises:
        ValueError: if there are no texts, or the strategy is of another family.
        TypeError: for streamed events.
        FileNotFoundError, ImportError: without a checkpoint, see `BertEncoder`.
    """
    if strategy.family != "content_tower":
        raise ValueError(f"`strategy` is of {strategy.family!r}; use one of a 'content_tower'.")
    if seed is not None:
        recipe = dataclasses.replace(strategy.training, seed=seed)
        strategy = dataclasses.replace(strategy, training=recipe)
    columns = columns or text_columns(features)
    if not columns:
        raise ValueError(
            "There are no texts for a BERT to read: no feature of the items is a Text or a "
            "HashedText. Declare one, or name `columns` of the items table."
        )
    encoder = encoder or BertEncoder()
    whole = data.data if isinstance(data, Split) else data
    if isinstance(whole, StreamedInteractions):
        raise TypeError("A BERT teacher reads events in memory, and these are streamed.")
    if tuning is not None:
        events = data.train if isinstance(data, Split) else whole
        below = None if folder is None else Path(folder) / "bert"
        encoder = fine_tuned(encoder, events, features, columns, tuning, below, progress)
    read = with_text_vectors(whole, encoder, columns, progress)
    return train(
        dataclasses.replace(data, data=read) if isinstance(data, Split) else read,
        strategy,
        folder=folder,
        features=teacher_features(features, encoder),
        progress=progress,
    )


def fitted_features(
    strategy: Strategy,
    data: Interactions | StreamedInteractions,
    warm_start: Recommender | None = None,
) -> FeatureSpec:
    """The strategy's features, or those that the data suggests, fitted; on a warm start the earlier
    model's, grown by what is new, if they were declared alike."""
    declared = strategy.features or FeatureSpec.infer(data, strategy.history_length)
    if warm_start is not None and warm_start.spec.declaration() == declared.declaration():
        return warm_start.spec.fit(data)  # so that numbers keep their scale
    return declared.fit(data)
