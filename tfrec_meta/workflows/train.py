"""Makes and fits a model of any family, including its teacher and its members; refits it."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tfrec_meta import training
from tfrec_meta.checks import check_list
from tfrec_meta.content.bert import BertEncoder
from tfrec_meta.content.text_vectors import teacher_features, text_columns, with_text_vectors
from tfrec_meta.data import Interactions, Split, StreamedInteractions, personal_columns
from tfrec_meta.data.profile import date_of
from tfrec_meta.distillation import FineTuningConfig, fine_tuned
from tfrec_meta.errors import ParameterError
from tfrec_meta.evaluation.judged import EventSummary
from tfrec_meta.features import FeatureSpec
from tfrec_meta.io.logs import logger
from tfrec_meta.metalearning.outer_loops import OUTER_LOOPS
from tfrec_meta.models import FAMILIES, Recommender
from tfrec_meta.models.base.contract import Teacher
from tfrec_meta.models.families.content_tower import ContentTowerConfig
from tfrec_meta.strategy import BERT, Strategy
from tfrec_meta.training import OnEpoch, TrainingConfig, TrainingOptions
from tfrec_meta.training.distribution import distribution_strategy

_log = logger(__name__)
_MENTIONED: weakref.WeakSet[Any] = weakref.WeakSet()  # data sets whose values were mentioned
_SEARCHED: weakref.WeakSet[Any] = weakref.WeakSet()  # data sets searched for personal columns

TEXT_TEACHER = Strategy(
    "content_tower",
    ContentTowerConfig(temperature=0.1, dropout=0.6),
    TrainingConfig(epochs=15, batch_size=4096, learning_rate=0.003),
)
"""The default strategy of a text teacher. It did best on validation items of MovieLens-100K that
were not in the training data."""
TEXT_TUNING = FineTuningConfig(
    "lora_everywhere", epochs=1, batch_size=128, max_steps=6, learning_rate=1e-3, dropout=0.1
)
"""A recipe to fine-tune the BERT of a text teacher: few steps with many users each. It takes one to
two minutes. It did best on films of MovieLens-100K that were not in the training data: with more
steps, the text vectors overfit to items with many events and describe new items less well."""


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
    recommend_history: bool = False,
) -> Recommender:
    """Makes and fits a model.

    Args:
        data: training events, in memory or streamed; or a Split, whose training and validation
            parts are used.
        strategy: the strategy, or the name of a family for its defaults.
        validation: events for early stopping; None trains all epochs.
        folder: folder for checkpoints and TensorBoard logs. The same call resumes a killed run.
        progress: whether to show the progress.
        features: a fitted FeatureSpec, used as it is. None fits the strategy's spec on the data, or
            with a warm start extends the spec of the earlier model.
        warm_start: an earlier model of the same family and shape, whose weights training starts
            from. Rows are matched by token: known tokens keep their embeddings, in whatever row
            they are now, and new tokens get fresh ones.
        teacher: a fitted model, such as an ensemble, or another `Teacher` to distill from. The
            model learns the teacher's scores of the whole catalogue in addition to the events.
            Families "two_tower" and "content_tower" with `negatives`="full" support it. Not
            together with a strategy that names a teacher of its own, which is fitted first.
        on_epoch: called after each epoch with the model and that epoch's line of the curve; an
            exception ends the training. For an ensemble or a two-stage model, it is called after
            the epochs of its members.
        recommend_history: whether validation ranks items of the users' histories like all others,
            as for repeated purchases; use the same value in `evaluate`. A `Validation` has its own.

    Returns:
        The fitted model. Its `curve` holds one dict per epoch.

    Raises:
        ValueError: if there are no events, `features` is not fitted, the earlier model has another
            family or shape, or the model cannot learn from the teacher or has two teachers.
        TypeError: if `data` is none of the above.

    Example:
        >>> import tfrec_meta as tm
        >>> model = tm.train(tm.synthetic(users=20, items=10, interactions=100), "popularity")
        >>> model.family
        'popularity'
    """
    strategy = Strategy(strategy) if isinstance(strategy, str) else strategy
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
            f"`data` is a {type(data).__name__}; use Interactions, a Split, or the result of "
            "`stream_interactions`."
        )
    options = TrainingOptions(
        validation, folder, progress, warm_start, teacher, on_epoch, recommend_history
    )
    return _checked_and_fitted(data, strategy, features, options)


def refit(
    model: Recommender,
    split: Split,
    strategy: Strategy | str,
    *,
    folder: Path | str | None = None,
    progress: bool = True,
    features: FeatureSpec | None = None,
) -> Recommender:
    """Trains a strategy again on all events of a split, test events included, for export.

    The evaluation stays that of `model`: there are no events left to judge the new model on. The
    test events decide nothing. A model that is trained by steps trains as many epochs as the best
    epoch of `model`, on the same schedule of learning rates. An ensemble that chose its weights on
    validation events keeps them.

    Args:
        model: the model of this strategy that `train` fitted on the split, with its learning curve.
        split: the split; all events of its data are used, also those that are in no part.
        strategy: the strategy of `model`, or the name of a family for its defaults.
        folder: as in `train`; not the folder of `model`.
        progress: whether to show the progress.
        features: as in `train`: by default, the strategy's spec is fitted on all events.

    Returns:
        The new model.

    Raises:
        ValueError: if `model` is of another family, or has no learning curve.

    Example:
        >>> import tfrec_meta as tm
        >>> split = tm.split_by_time(tm.synthetic(users=20, items=10, interactions=100))
        >>> model = tm.train(split, "ease")
        >>> final = tm.refit(model, split, "ease")
        >>> model.trained_on.events, final.trained_on.events
        (80, 100)
    """
    strategy = Strategy(strategy) if isinstance(strategy, str) else strategy
    if model.family != strategy.family:
        raise ParameterError(
            f"`model` is of family {model.family!r} and `strategy` of {strategy.family!r}; use the "
            "model of this strategy.",
            "model",
            "strategy",
        )
    # Events of a random split have other histories in training; see `TrainingConfig.history`.
    data = dataclasses.replace(split.data, sampled=split.train.sampled)
    options = TrainingOptions(folder=folder, progress=progress, refit_of=model)
    return _checked_and_fitted(data, strategy, features, options)


def event_summary(data: Interactions, rows: np.ndarray | None = None) -> EventSummary:
    """Returns the size of some events.

    Args:
        data: the events.
        rows: int64 [n], event rows; None for all.
    """
    times = data.events["time"]
    if rows is None:  # counted without the codes, which would stay in memory
        events = len(data)
        users, items = (pc.count_distinct(data.events[k]).as_py() for k in ("user_id", "item_id"))
    else:
        events, times = len(rows), times.take(rows)
        codes = (data.user_codes[rows], data.item_codes[rows])
        users, items = (int(np.count_nonzero(np.bincount(one))) for one in codes)
    ends = pc.min_max(times).as_py()
    return EventSummary(events, users, items, date_of(ends["min"]), date_of(ends["max"]))


def _checked_and_fitted(
    data: Interactions | StreamedInteractions,
    strategy: Strategy,
    features: FeatureSpec | None,
    options: TrainingOptions,
) -> Recommender:
    """Makes and fits a model on events that are checked first; see `train`."""
    if not len(data):
        raise ValueError("There are no events to train on. Check the split.")
    if data.feedback is None:
        _mention_unused_values(data, strategy)
    elif not any(np.any(np.asarray(part.weights) > 0) for part in data.parts()):
        raise ValueError(
            "No training event is positive under the declared feedback. Lower `positive`, or "
            "check the split."
        )
    _mention_personal_columns(data)
    if not strategy.use_weights:
        data = data.with_equal_weights()
    model = _make_and_fit(data, strategy, features, options)
    if isinstance(data, Interactions):
        model.trained_on = event_summary(data)
    else:  # of streamed events, the vocabularies have the numbers of users and items
        users, items = len(model.spec.users) - 1, model.spec.catalogue_size
        model.trained_on = EventSummary(len(data), users, items)
    return model


def _mention_unused_values(data: Interactions | StreamedInteractions, strategy: Strategy) -> None:
    """Logs, once per data set, that the model does not use values that vary."""
    members = strategy.members()
    if members:
        for member in members:
            _mention_unused_values(data, member)
        return
    if data.origin in _MENTIONED or FAMILIES[strategy.family].targets_of(strategy.model):
        return
    values = next(data.parts()).events["value"].to_numpy()  # streamed: of the first part
    if not len(values) or values.min() == values.max():
        return
    _MENTIONED.add(data.origin)
    _log.warning(
        "%s: `value` varies from %g to %g, but a model of family %s counts all events alike. "
        "Declare what the values mean: data.with_feedback(tfrec_meta.Feedback(weight='value')) "
        "weights events by them, and Feedback(positive=4) counts those of 4 or more "
        "(in the command: --weight, --positive).",
        data.name,
        values.min(),
        values.max(),
        strategy.family,
    )


def _mention_personal_columns(data: Interactions | StreamedInteractions) -> None:
    """Logs, once per data set, which columns look personal; no value is logged."""
    if data.origin in _SEARCHED:
        return
    _SEARCHED.add(data.origin)
    found = [str(column) for column in personal_columns(data)]
    if found:
        _log.warning(
            "%s: columns that look personal: %s. Those of users are features only if you declare "
            "them. The model card of an export says what it holds of each.",
            data.name,
            ", ".join(found),
        )


def _make_and_fit(
    data: Interactions | StreamedInteractions,
    strategy: Strategy,
    features: FeatureSpec | None,
    options: TrainingOptions,
) -> Recommender:
    """Makes and fits a model, its teacher and its members; see `train`."""
    # First of all: some distribution strategies have to begin before TensorFlow does.
    distribution = distribution_strategy(strategy.training.distribute)
    training.seed_everything(strategy.training.seed)
    if features is None:
        features = fitted_features(strategy, data, options.warm_start)
    if strategy.teacher is not None:
        teacher = _fitted_teacher(data, strategy, features)
        options = dataclasses.replace(options, teacher=teacher)
        # So that the model is the same as with a teacher that was fitted before.
        training.seed_everything(strategy.training.seed)
    family: Any = FAMILIES[strategy.family]
    with distribution.scope():
        model: Recommender = family(strategy.model, features)
    if strategy.members():
        # Both raise: better before the members take their time.
        if options.warm_start is not None:
            model.warm_start(options.warm_start)
        if options.teacher is not None:
            model.teach(options.teacher)
        model.unite(
            [
                _make_and_fit(data, member, features, _options_of_member(options, number))
                for number, member in enumerate(strategy.members())
            ]
        )
    training.fit(model, data, strategy.training, options)
    if strategy.family in OUTER_LOOPS:
        OUTER_LOOPS[strategy.family].train(model, data, strategy.training.seed)
    return model


def _fitted_teacher(
    data: Interactions | StreamedInteractions, strategy: Strategy, features: FeatureSpec
) -> Recommender:
    """The teacher that a strategy names, fitted on the same data."""
    if strategy.teacher == BERT:
        return text_teacher(data, features, seed=strategy.training.seed, progress=False)
    teacher = Strategy(str(strategy.teacher), training=strategy.training)
    return _make_and_fit(data, teacher, features, TrainingOptions(progress=False))


def _options_of_member(options: TrainingOptions, number: int) -> TrainingOptions:
    """The options for a member of an ensemble or of a two-stage model."""
    folder = None if options.folder is None else Path(options.folder) / "members" / str(number)
    judged = None if options.refit_of is None else options.refit_of.members[number]
    return dataclasses.replace(
        options, folder=folder, warm_start=None, teacher=None, refit_of=judged
    )


def fitted_features(
    strategy: Strategy,
    data: Interactions | StreamedInteractions,
    warm_start: Recommender | None = None,
) -> FeatureSpec:
    """Fits the strategy's FeatureSpec, or one inferred from the data.

    With a warm start whose spec has the same declaration, the earlier spec is extended by new
    tokens, so that numbers keep their scale and tokens their rows.
    """
    declared = strategy.features or FeatureSpec.infer(data, strategy.history_length)
    if warm_start is not None and warm_start.spec.declaration() == declared.declaration():
        return warm_start.spec.fit(data)
    return declared.fit(data)


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
    """Trains a content tower on BERT vectors of the items' texts, as a teacher for small models.

    The vectors are computed once, before the tower is trained on them. With `tuning`, the BERT is
    first fine-tuned on the training events (see `fine_tuned`).

    Args:
        data: training events; or a Split, whose training and validation parts are used.
        features: the fitted FeatureSpec of the future students. The teacher has the same features,
            except that BERT vectors replace the texts.
        encoder: the text encoder; None for the packaged MiniLM.
        columns: columns of the items table that make up a text; empty for the text features.
        strategy: the strategy of the content tower.
        tuning: how to fine-tune the BERT, for example `TEXT_TUNING`; None leaves it unchanged.
        seed: the training seed, instead of the strategy's.
        folder: folder for checkpoints; those of the fine-tuning are in its sub-folder `bert`.
        progress: whether to show the progress.

    Raises:
        ValueError: if there are no texts, or the strategy has another family.
        TypeError: if the events are streamed.
        FileNotFoundError, ImportError: if there is no BERT checkpoint; see `BertEncoder`.
    """
    check_list("columns", columns)
    if strategy.family != "content_tower":
        raise ValueError(
            f"`strategy` has family {strategy.family!r}; use a strategy of 'content_tower'."
        )
    if seed is not None:
        recipe = dataclasses.replace(strategy.training, seed=seed)
        strategy = dataclasses.replace(strategy, training=recipe)
    columns = columns or text_columns(features)
    if not columns:
        raise ValueError(
            "There are no texts for a BERT to read: no item feature is a Text or a HashedText. "
            "Declare one, or name `columns` of the items table."
        )
    encoder = encoder or BertEncoder()
    events = data.data if isinstance(data, Split) else data
    if isinstance(events, StreamedInteractions):
        raise TypeError(
            "A BERT teacher needs the events in memory, and these are streamed. Read them with "
            "`read_interactions`."
        )
    if tuning is not None:
        to_train = data.train if isinstance(data, Split) else events
        checkpoints = None if folder is None else Path(folder) / "bert"
        encoder = fine_tuned(encoder, to_train, features, columns, tuning, checkpoints, progress)
    with_vectors = with_text_vectors(events, encoder, columns, progress)
    return train(
        dataclasses.replace(data, data=with_vectors) if isinstance(data, Split) else with_vectors,
        strategy,
        folder=folder,
        features=teacher_features(features, encoder),
        progress=progress,
    )
