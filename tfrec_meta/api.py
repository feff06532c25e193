"""The library in a handful of calls: train, evaluate, export, save, load, report."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfrec_meta import (
    keras,  # noqa: F401  (chooses Keras 2 before TensorFlow is imported)
    training,
)
from tfrec_meta.data import (
    Interactions,
    Split,
    StreamedInteractions,
    user_histories,
)
from tfrec_meta.distillation import (
    BertEncoder,
    FineTuningConfig,
    fine_tuned,
    teacher_features,
    text_columns,
    with_text_vectors,
)
from tfrec_meta.distribution import strategy_of
from tfrec_meta.evaluation import (
    Estimate,
    Evaluation,
    format_table,
    full_catalogue,
    peers,
    top_k,
)
from tfrec_meta.evaluation.predictions import (
    CLICK,
    RATING,
    format_predictions,
    judge_predictions,
)
from tfrec_meta.export.saved_model import ExportConfig, default_card, export_model
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.held_out import (
    event_queries,
    held_out,
    interaction_matrix,
    user_queries,
)
from tfrec_meta.metalearning.rankers import learn_start
from tfrec_meta.metalearning.recommender import learn_to_adapt
from tfrec_meta.models import (
    FAMILIES,
    Composite,
    ContentTowerConfig,
    EASEConfig,
    MetaLearned,
    MetaRanker,
    Recommender,
    load_model,
)
from tfrec_meta.models.closed_forms import ease_weights
from tfrec_meta.models.contract import Teacher, read_config
from tfrec_meta.models.trainable import TrainableRecommender
from tfrec_meta.training import OnEpoch, TrainingConfig

import numpy as np

BASELINES = ("popularity", "item_knn", "ease", "ials")
TEACHERS = tuple(
    name
    for name, family in FAMILIES.items()
    if not issubclass(family, (TrainableRecommender, Composite))
)
"""The families that a strategy may name as its teacher: solved from the data at once."""
BERT = "bert"
"""Another teacher that it may name: `text_teacher`."""
_LARGE_CATALOGUE = 20_000  # items: EASE inverts a matrix of this width
_log = logging.getLogger(__name__)
RowScores = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Strategy:
    """Everything that decides how a model comes about.

    Args:
        family: a key of `tfrec_meta.models.FAMILIES`.
        model: the family's config; its defaults when None.
        training: the recipe; closed forms take only their data, ensembles and two-stage models
            hand it to their members.
        features: an unfitted FeatureSpec; inferred from the data's tables when None.
        history_length: of the inferred spec.
        teacher: a family that is solved at once, as "ease" or "ials", or "bert" (`text_teacher`):
            fitted first, on the same data, it teaches the model its scores (see `train`). Only
            "two_tower" and "content_tower" with `negatives`="full" and `loss`="softmax" learn from
            one.
    """

    family: str = "two_tower"
    model: Any = None
    training: TrainingConfig = TrainingConfig()
    features: FeatureSpec | None = None
    history_length: int = 200
    teacher: str | None = None

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"`family`={self.family!r}; known are {sorted(FAMILIES)}.")
        wanted = FAMILIES[self.family].config_type
        if self.model is None:
            object.__setattr__(self, "model", wanted())
        if not isinstance(self.model, wanted):
            raise ValueError(f"Family {self.family!r} takes a {wanted.__name__} as `model`.")
        self.members()  # whatever is wrong with one of them shows now
        if self.teacher is not None:
            known = (*TEACHERS, BERT)
            if self.teacher not in known:
                raise ValueError(
                    f"`teacher`={self.teacher!r}; use one of {', '.join(known)}, or hand a fitted "
                    "model of any family to `train`."
                )
            FAMILIES[self.family].check_teachable(self.model)

    def members(self) -> tuple[Strategy, ...]:
        """How the models come about of which this one is made; none for most families.

        A member's recipe is that of the whole, but for what it says itself; so are the features,
        which are of one spec.

        Raises:
            ValueError: if one has a family, a field or a value that makes no sense, by name.
        """
        if not issubclass(FAMILIES[self.family], Composite):
            return ()
        recipe, whole = dataclasses.asdict(self.training), []
        for member in self.model.members:
            record = {"family": member.family, "model": member.model}
            record["training"] = {**recipe, **member.training}
            whole.append(Strategy.from_dict(record))
        return tuple(whole)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `from_dict` takes them back."""
        record = {"family": self.family, "history_length": self.history_length}
        record["model"] = dataclasses.asdict(self.model)
        record["training"] = dataclasses.asdict(self.training)
        if self.features is not None:
            record["features"] = self.features.declaration()
        if self.teacher is not None:
            record["teacher"] = self.teacher
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Strategy:
        """Reads what `as_dict` gave, or a part of it: what is left out has its default.

        Raises:
            ValueError: for a family, a field or a value that makes no sense, by name.
        """
        family = record.get("family", "two_tower")
        if family not in FAMILIES:
            raise ValueError(f"`family`={family!r}; known are {sorted(FAMILIES)}.")
        return cls(
            family,
            read_config(FAMILIES[family].config_type, record.get("model", {})),
            read_config(TrainingConfig, record.get("training", {})),
            FeatureSpec.declared(record["features"]) if record.get("features") else None,
            history_length=record.get("history_length", 200),
            teacher=record.get("teacher"),
        )


def with_searched(strategy: Strategy, record: Mapping[str, Any]) -> Strategy:
    """A strategy, and over it what a search found.

    Args:
        strategy: what was not searched.
        record: what `StrategySpace.strategy_record` gave. A teacher that it names, or None, takes
            the place of the strategy's.
    """
    whole = strategy.as_dict()
    family = record.get("family", strategy.family)
    same = family == strategy.family
    shape = whole["model"] if same else {}
    return Strategy.from_dict(
        {
            **whole,
            "family": family,
            "teacher": record.get("teacher", strategy.teacher if same else None),
            "model": {**shape, **record.get("model", {})},
            "training": {**whole["training"], **record.get("training", {})},
        }
    )


class Evaluations(dict[str, Evaluation]):
    """Evaluations by name, the model's first; prints as one table."""

    def __str__(self) -> str:
        return format_table(self)


class Judgements(dict[str, Mapping[str, Estimate]]):
    """Figures of predictions by target, "rating" and "click"; prints as one table."""

    def __str__(self) -> str:
        return format_predictions(self)


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
    distribution = strategy_of(strategy.training.distribute)  # first: TensorFlow may not have begun
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


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """An item, how well it fits (comparable within one answer), and its title, "" without one."""

    item_id: str
    score: float
    title: str = ""


def recommend(
    model: Recommender, users: Sequence[str], past: Interactions, k: int = 10
) -> list[list[Recommendation]]:
    """The best items for users, without those of their past; as a served model would answer.

    Args:
        model: a fitted model.
        users: ids; one of whom `past` knows nothing gets the model's prior.
        past: the events that are known, such as `split.train`; their users' histories.
        k: how many; an answer is shorter where the catalogue is.

    Returns:
        A list a user, best first.
    """
    tokens = np.asarray(users, object)
    if tokens.ndim != 1:
        raise ValueError(f"`users`={users!r}; give a list of ids, as ['42'].")
    scores = _scores(model, user_queries(model.spec, past, tokens))
    seen = interaction_matrix(past, tokens, model.spec.items)
    length = min(k, model.spec.catalogue_size)
    best, values = top_k(scores, np.arange(len(tokens)), length, seen)
    titles, answers = _titles(model), []
    for columns, row in zip(best, values, strict=True):
        left = columns >= 0  # someone may have seen nearly all of a small catalogue
        ids = model.spec.items.decode(columns[left] + 1)
        pairs = zip(ids, row[left], strict=True)
        answers.append([Recommendation(i, float(v), titles.get(i, "")) for i, v in pairs])
    return answers


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What a newcomer is recommended, best first, and how many support items the model knows."""

    items: list[Recommendation]
    support_used: int


def adapt(
    model: Recommender,
    support: Sequence[Sequence[str] | Mapping[str, float]],
    k: int = 10,
    exclude: Sequence[Sequence[str]] | None = None,
    features: Mapping[str, Any] | None = None,
) -> list[Adapted]:
    """Recommendations for newcomers by a few items each, as the signature `adapt` answers.

    Args:
        model: a fitted model of a family that adapts: "meta_learned" or "meta_ranker".
        support: of each newcomer, the ids of chosen items, or labels by id, from 0 (not for me) to
            1 (chosen), or ratings where the model predicts these. Unknown items are left out; with
            none at all the answer is zero-shot.
        k: how many; an answer is shorter where the catalogue is.
        exclude: of each newcomer, what is left out of the answer beside the support set.
        features: of "meta_ranker", raw columns of user features by name, a value each newcomer;
            those left out are unknown.

    Raises:
        ValueError: if the family doesn't adapt, or not by features; if `k` is below 1, `exclude` or
            a feature has other rows, or a support set is a single text.
    """
    function = model.serving_functions().get("adapt")
    if function is None:
        raise ValueError(f"Family {model.family!r} doesn't adapt. Train 'meta_learned'.")
    if features and not model.adapts_by_features:
        raise ValueError(
            f"Family {model.family!r} adapts by support sets alone. Leave out `features`."
        )
    if k < 1:
        raise ValueError(f"`k`={k}; use 1 or more.")
    if isinstance(support, str) or any(isinstance(given, str) for given in support):
        raise ValueError(f"`support`={support!r}; give a list of ids for each newcomer: [['i3']].")
    exclude = [()] * len(support) if exclude is None else exclude
    if len(exclude) != len(support):
        raise ValueError(f"`exclude` has {len(exclude)} rows for {len(support)} support sets.")
    if not len(support):
        return []
    rows = [model.spec.items.encode(np.array([*given], object)) for given in support]
    items = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    labels = np.full(items.shape, model.default_label, np.float32)
    for place, (row, given) in enumerate(zip(rows, support, strict=True)):
        items[place, : len(row)] = row
        if isinstance(given, Mapping):
            labels[place, : len(row)] = [*given.values()]
    further = []
    if features:
        further = [model.spec.encode_queries([""] * len(rows), features=features)]
    found, used = function(items, labels, *further)
    scores = found.numpy()
    for place, (row, left_out) in enumerate(zip(rows, exclude, strict=True)):
        hidden = np.append(row, model.spec.items.encode(np.array([*left_out], object)))
        scores[place, hidden[hidden > 0] - 1] = -np.inf
    titles, answers = _titles(model), []
    for row, count in zip(scores, used.numpy(), strict=True):
        best = np.argsort(-row, kind="stable")[:k]
        best = best[np.isfinite(row[best])]
        pairs = zip(model.spec.items.decode(best + 1), row[best], strict=True)
        listed = [Recommendation(i, float(v), titles.get(i, "")) for i, v in pairs]
        answers.append(Adapted(listed, int(count)))
    return answers


def evaluate(
    model: Recommender,
    split: Split,
    *,
    k: int = 10,
    baselines: Sequence[str] | None = None,
    resamples: int = 1000,
    ease_l2: float = EASEConfig().l2,
) -> Evaluations:
    """Ranks the full catalogue for each test user, beside the baselines on the same split.

    What a user did in the train and validation parts is the query's history, and is taken out of
    the ranking; every test event counts as relevant. Baselines are fitted on the same past.

    Args:
        model: a fitted model.
        split: its test part is evaluated.
        k: length of the list.
        baselines: any of "popularity", "item_knn", "ease", "ials"; by default those that are
            possible here: item_knn and ials need the `bench` extra, and ease a catalogue whose
            square fits into memory.
        resamples: bootstrap draws for the intervals.
        ease_l2: penalty of the EASE baseline.

    Raises:
        ValueError: for an unknown baseline, or a split without test events.
        ImportError: if a baseline needs the `bench` extra, and it isn't installed.
    """
    asked = held_out(model.spec, split.past, split.test)

    def run(scores: Any) -> Evaluation:
        return full_catalogue(
            scores,
            asked.relevant,
            asked.seen,
            k=k,
            extra_relevant=asked.outside,
            resamples=resamples,
        )

    if baselines is None:
        baselines = possible_baselines(model.spec.catalogue_size)
    results = Evaluations({model.family: run(_scores(model, asked.queries))})
    # Baselines learn from everyone's past, and are asked about the users of the test part.
    everyone = np.union1d(split.past.user_ids.astype(str), asked.users.astype(str)).astype(object)
    train = interaction_matrix(split.past, everyone, model.spec.items)
    row = np.searchsorted(everyone, asked.users)
    for name in baselines:
        found = run(_of_rows(_baseline(name, train, ease_l2), row))
        results[name if name not in results else f"{name} (baseline)"] = found
    return results


def evaluate_ranking(
    model: Recommender, split: Split, *, resamples: int = 1000, seed: int = 42
) -> Judgements:
    """Judges what a model of ratings or clicks predicts of each test event.

    What a user did in the train and validation parts is the query's history, as for `evaluate`;
    nothing of the test part is known when an event of it is asked about.

    Args:
        model: a fitted model that has `targets`.
        split: its test part is evaluated.
        resamples: bootstrap draws of users for the intervals.
        seed: of these.

    Returns:
        Of "rating" rmse, mae and calibration; of "click" auc, log_loss, accuracy, precision,
        recall, f1 (at a chance of .5), calibration and calibration_error.

    Raises:
        ValueError: if the model predicts no single events, or there are no test events.
    """
    if not model.targets:
        raise ValueError(
            f"This {model.family!r} ranks items, and predicts neither ratings nor clicks. Use "
            "`evaluate`, or train a ranker with `target`='rating' or 'click'."
        )
    test = split.test
    queries, items = event_queries(model.spec, split.past, test)
    value = test.events["value"].to_numpy()
    found = Judgements()
    for target, predicted in model.predict_events(queries, items).items():
        click = target == "click"
        labels = value >= model.config.click_threshold if click else value
        found[target] = judge_predictions(
            CLICK if click else RATING, labels, predicted, test.user_codes, resamples, seed
        )
    return found


def possible_baselines(catalogue_size: int) -> list[str]:
    """The baselines that can be fitted here; what is left out, and why, is logged."""
    possible = list(BASELINES)
    if importlib.util.find_spec("implicit") is None:
        possible = [name for name in possible if name not in ("item_knn", "ials")]
        _log.warning("item_knn and ials are left out: they need `pip install 'tfrec-meta[bench]'`.")
    if catalogue_size > _LARGE_CATALOGUE:
        possible.remove("ease")
        _log.warning(
            "ease is left out: the catalogue has %s items, too many for its matrix. "
            "Name it in `baselines` to try all the same.",
            f"{catalogue_size:,}",
        )
    return possible


def export(
    model: Recommender,
    base: Path | str,
    config: ExportConfig = ExportConfig(),
    *,
    version: int | None = None,
    evaluations: Mapping[str, Evaluation] | None = None,
) -> Path:
    """Exports a SavedModel that TF Serving loads: `<base>/<version>/saved_model.pb`.

    Args:
        model: a fitted model.
        base: the folder of this served model; its last part is the model's name.
        config: what requests may ask for.
        version: a positive integer; by default the next one.
        evaluations: what `evaluate` gave, for the model card.

    Returns:
        The version folder.
    """
    card = default_card(Path(base).name, model, config)
    if evaluations:
        card += f"\nFull-catalogue evaluation:\n\n```text\n{format_table(evaluations)}\n```\n"
    return export_model(model, base, config, version, card)


def save(model: Recommender, folder: Path | str, overwrite: bool = False) -> None:
    """Saves a fitted model of any family for `load`."""
    model.save(folder, overwrite)


def load(folder: Path | str) -> Recommender:
    """Loads what `save` wrote."""
    return load_model(folder)


def report(
    path: Path | str,
    model: Recommender,
    split: Split,
    evaluations: Mapping[str, Evaluation],
    *,
    title: str = "",
    users: Sequence[str] = (),
    k: int = 10,
) -> Path:
    """Writes a self-contained HTML page of a run.

    Args:
        path: the .html file.
        model: the fitted model.
        split: what it was trained and evaluated on.
        evaluations: what `evaluate` gave.
        title: a heading.
        users: whose histories and recommendations to show; by default the test user with the
            middle-most number of past events.
        k: recommendations a user.

    Returns:
        The path.
    """
    from tfrec_meta.evaluation.report import write_report  # plots, which only this needs

    if not len(users):
        asked = split.test.user_ids
        counts = np.diff(interaction_matrix(split.past, asked, model.spec.items).indptr)
        users = [asked[np.argsort(counts, kind="stable")[len(counts) // 2]]]
    strangers = sorted(set(users) - set(split.data.user_ids))
    if strangers:
        raise ValueError(f"`users` names {strangers}, of whom the data has no events.")
    titles = _titles(model)
    latest = user_histories(split.past, users, 10)
    answers = recommend(model, users, split.past, k)
    examples = [
        {
            "user": user,
            "history": [titles.get(item, item) for item in history[::-1] if item],
            "recommendations": [(each.title or each.item_id, each.score) for each in answer],
        }
        for user, history, answer in zip(users, latest, answers, strict=True)
    ]
    return write_report(
        path,
        title=title or f"{model.family} on {split.data.name}",
        profile=split.data.profile(),
        history=list(model.curve),
        evaluations=dict(evaluations),
        examples=examples,
        config={
            "family": model.family,
            "split": split.protocol,
            **dataclasses.asdict(model.config),
        },
    )


def _scores(model: Recommender, queries: Mapping[str, np.ndarray]) -> RowScores:
    return lambda rows: model.score({name: value[rows] for name, value in queries.items()})


def _of_rows(scores: RowScores, row: np.ndarray) -> RowScores:
    return lambda rows: scores(row[rows])


def _baseline(name: str, seen: Any, ease_l2: float) -> Any:
    if name == "popularity":
        counts = np.asarray(seen.sum(axis=0), np.float32).ravel()
        return lambda rows: np.tile(counts, (len(rows), 1))
    if name == "ease":
        weights = ease_weights(seen, ease_l2)
        return lambda rows: np.asarray(seen[rows] @ weights)
    if name == "item_knn":
        return peers.item_knn_scores(seen)
    if name == "ials":
        return peers.ials_scores(seen)
    raise ValueError(f"No baseline {name!r}; there are {', '.join(BASELINES)}.")


def _titles(model: Recommender) -> dict[str, str]:
    if model.items is None or "title" not in model.items.column_names:
        return {}
    ids, titles = model.items["item_id"].to_pylist(), model.items["title"].to_pylist()
    return {item: title for item, title in zip(ids, titles, strict=True) if title}
