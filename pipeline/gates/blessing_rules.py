"""May this model replace what is served? The rules of the ranking gate, and its words.

Two models and popularity are asked about the same users and held-out events; every item of the
catalogue is ranked for every user, without the items of the past. Differences are judged by the
paired bootstrap's interval, on the whole and on slices:

Above popularity. On the whole: the interval of model minus popularity lies above 0. On a slice only
users of whom the model knows something count, since it answers the others with popularity itself,
by contract. There the model fails if the interval lies below 0, or if its mean is no higher than
popularity's although the slice would have shown a gain as large as that on the whole (the
interval's half-width is less than that gain). Otherwise there are too few users to tell, and the
slice doesn't block: where a gain can't be seen it could not be seen in the next run either.

Not below the last blessed model. The model fails if the interval of model minus last blessed lies
below 0, on the whole or on a slice: it is significantly worse.

From very few users nothing is concluded: with n users no sign test is significant if 2 / 2^n is
above 1 - confidence, and the bootstrap's interval is too narrow there. Values of one column share
the error: each of m is judged at a confidence of 1 - (1 - confidence) / m.

An item that a model doesn't know is never in its list: a miss, for either model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec_meta.data import Interactions
from tfrec_meta.evaluation import full_catalogue
from tfrec_meta.evaluation.intervals import paired_difference
from tfrec_meta.features.held_out import held_out, interaction_matrix, user_queries
from tfrec_meta.models import Recommender
from tfrec_meta.pipeline.config import EvaluatorConfig

WHOLE, NEW_USERS, LONG_TAIL = "the whole", "new users", "long-tail items"
POPULARITY, LAST_BLESSED, LEAST = "popularity", "the last blessed model", "the least"
_METRICS = ("ndcg", "recall")
_SAID = 4  # reasons in one sentence
_SHOWN = {"ndcg": "NDCG", "recall": "recall", "auc": "AUC"}

Outcome = Literal["passed", "failed", "open"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was asked of the model.

    Attributes:
        slice: "the whole", "new users", "long-tail items", or "<column>=<value>".
        metric: such as "ndcg@10".
        against: "popularity", "the last blessed model", or "the least" (a threshold).
        users: how many have a value of both.
        model: the candidate's mean over them; None without users.
        other: what it is compared with.
        difference, low, high: mean of the paired differences and its interval, where it is one.
        confidence: of the interval.
        outcome: "passed", "failed", or "open": too few users to tell, which doesn't block.
        words: the same in words.
    """

    slice: str
    metric: str
    against: str
    users: int
    model: float | None
    other: float | None
    difference: float | None
    low: float | None
    high: float | None
    confidence: float | None
    outcome: Outcome
    words: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the model is blessed, and why."""

    blessed: bool
    words: str
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class _Slice:
    name: str
    users: np.ndarray  # bool [u]
    confidence: float
    only_tail: bool = False


def the_same_model() -> Verdict:
    """The candidate is what was blessed last."""
    return Verdict(True, "Blessed: this is the last blessed model itself, so there is no contest.")


def judge(
    model: Recommender,
    baseline: Recommender | None,
    past: Interactions,
    test: Interactions,
    config: EvaluatorConfig,
    auc: float | None = None,
    seed: int = 42,
) -> Verdict:
    """Compares the model with popularity, with the last blessed one, and with the thresholds.

    Args:
        model: the candidate.
        baseline: the last blessed model; None in a first run.
        past: what may be known: train and validation events, users and items.
        test: the events that are to be found.
        config: thresholds, and what the intervals are made of.
        auc: of the ranking signature on the whole, as TFMA found it.
        seed: of the bootstrap.

    Raises:
        ValueError: if `config.slices` names a column that neither users nor events have.
    """
    if not len(test):
        return _refused("there are no test events to judge it by. Check the split.")
    users = test.user_ids
    slices, notes = _slices(past, test, users, config)
    tail = _long_tail(past, test, config.long_tail)
    try:
        ours = _answers(model, past, test, users, tail, config.k)
    except ValueError as error:  # NaN scores, above all
        return _refused(f"it can't be ranked ({error}).")
    popular = _popularity_answers(model, past, test, users, tail, config.k)
    last = None if baseline is None else _answers(baseline, past, test, users, tail, config.k)
    known = _has_evidence(model, past, users)

    checks: list[Check] = []
    for metric in _METRICS:
        name, gain = f"{metric}@{config.k}", 0.0
        for part in slices:
            a = np.where(part.users, ours[metric, part.only_tail], np.nan)
            pair = _Pair(part, name, POPULARITY, config, seed)
            b = popular[metric, part.only_tail]
            if part.name == WHOLE:
                check = pair.compare(a, b, _above_on_the_whole)
                gain = check.difference or 0.0
            else:
                check = pair.compare(np.where(known, a, np.nan), b, _above_on_a_slice(gain))
            checks.append(check)
            if last is not None:
                pair = _Pair(part, name, LAST_BLESSED, config, seed)
                checks.append(pair.compare(a, last[metric, part.only_tail], _not_below))
        least = getattr(config, f"min_{metric}")
        if least > 0:
            mean = float(np.nanmean(ours[metric, False]))
            checks.append(_threshold(name, mean, least, len(users)))
    if config.min_auc is not None:
        checks.append(_threshold("auc", math.nan if auc is None else auc, config.min_auc, 0))
    strangers = int((~known).sum())
    if strangers:
        notes.append(
            f"Of {strangers:,} of the {len(users):,} test users the model knows nothing; it "
            "answers them with popularity, and they don't count where a slice is held against it."
        )
    return _verdict(checks, notes, baseline is not None)


def _refused(why: str) -> Verdict:
    return Verdict(False, f"Not blessed: {why}")


def _verdict(checks: Sequence[Check], notes: Sequence[str], contested: bool) -> Verdict:
    failed = [check.words for check in checks if check.outcome == "failed"]
    if failed:
        left = len(failed) - _SAID
        more = f"; and {left} more" if left > 0 else ""
        words = "Not blessed: " + "; ".join(failed[:_SAID]) + more + "."
    else:
        words = "Blessed: " + checks[0].words
        words += (
            ", and nothing is significantly below the last blessed model's." if contested else "."
        )
    return Verdict(not failed, words, tuple(checks), tuple(notes))


# Who is asked about what.


def _slices(
    past: Interactions, test: Interactions, users: np.ndarray, config: EvaluatorConfig
) -> tuple[list[_Slice], list[str]]:
    """The whole first; then the named ones, then one a value of users' columns."""
    everyone = np.ones(len(users), bool)
    counted = pc.value_counts(past.events["user_id"])
    events = dict(zip(*(counted.field(i).to_pylist() for i in (0, 1)), strict=True))
    is_new = np.array([events.get(user, 0) <= config.new_user_events for user in users])
    slices = [
        _Slice(WHOLE, everyone, config.confidence),
        _Slice(NEW_USERS, is_new, config.confidence),
        _Slice(LONG_TAIL, everyone, config.confidence, only_tail=True),
    ]
    notes: list[str] = []
    for column in config.slices:
        if past.users is None or column not in past.users.column_names:
            if column in test.events.column_names:
                continue  # TFMA slices by it; an event's column doesn't part users
            raise ValueError(
                f"`slices` names {column!r}, but neither users nor events have such a column; "
                f"there are {_columns_of(past, test)}."
            )
        values = _values_of(past.users, column, users)
        found = sorted({value for value in values if value is not None}, key=str)
        fewest = fewest_users(config.confidence)
        masks = {value: np.array([v == value for v in values]) for value in found}
        large = {value: mask for value, mask in masks.items() if mask.sum() >= fewest}
        shared = 1 - (1 - config.confidence) / max(len(large), 1)
        slices += [_Slice(f"{column}={value}", mask, shared) for value, mask in large.items()]
        if len(large) < len(masks):
            notes.append(
                f"{len(masks) - len(large):,} values of {column} have fewer than {fewest} test "
                "users, too few to tell anything by."
            )
    return slices, notes


def _columns_of(past: Interactions, test: Interactions) -> str:
    users = [] if past.users is None else past.users.column_names
    return ", ".join(dict.fromkeys([*users, *test.events.column_names]))


def _values_of(table: pa.Table, column: str, users: np.ndarray) -> list[Any]:
    rows = pc.index_in(pa.array(users, pa.string()), table["user_id"].combine_chunks())
    values = table[column].take(rows).to_pylist()
    return [str(value) if isinstance(value, list) else value for value in values]


def _long_tail(past: Interactions, test: Interactions, share: float) -> Interactions:
    """The test events of the rarest items that together hold `share` of the past events.

    Items that the past lacks are the rarest of all. Items of equal count are in or out together.
    """
    counted = pc.value_counts(past.events["item_id"])
    count = counted.field("counts").to_numpy(zero_copy_only=False)
    order = np.argsort(count, kind="stable")
    held = np.cumsum(count[order])
    above = np.flatnonzero(held > share * count.sum())
    limit = count[order[above[0]]] if len(above) else 1
    head = counted.field("values").filter(pa.array(count >= limit))
    is_tail = pc.invert(pc.is_in(test.events["item_id"], value_set=head))
    return test.take(np.flatnonzero(is_tail.to_numpy(zero_copy_only=False)))


_Answers = Mapping[tuple[str, bool], np.ndarray]
"""(metric, whether only long-tail items are relevant) -> float64 [u], NaN for who has none."""


def _answers(
    model: Recommender,
    past: Interactions,
    test: Interactions,
    users: np.ndarray,
    tail: Interactions,
    k: int,
) -> _Answers:
    queries = user_queries(model.spec, past, users)

    def scores(rows: np.ndarray) -> np.ndarray:
        return model.score({name: value[rows] for name, value in queries.items()})

    return _measured(model, scores, past, test, users, tail, k)


def _popularity_answers(
    model: Recommender,
    past: Interactions,
    test: Interactions,
    users: np.ndarray,
    tail: Interactions,
    k: int,
) -> _Answers:
    """The model's catalogue by how many users of the past touched each item."""
    touched = interaction_matrix(past, past.user_ids, model.spec.items)
    counts = np.asarray(touched.sum(axis=0), np.float32).ravel()

    def scores(rows: np.ndarray) -> np.ndarray:
        return np.tile(counts, (len(rows), 1))

    return _measured(model, scores, past, test, users, tail, k)


def _measured(
    model: Recommender,
    scores: Any,
    past: Interactions,
    test: Interactions,
    users: np.ndarray,
    tail: Interactions,
    k: int,
) -> _Answers:
    width = model.spec.catalogue_size
    found: dict[tuple[str, bool], np.ndarray] = {}
    for only_tail, events in ((False, test), (True, tail)):
        for metric in _METRICS:
            found[metric, only_tail] = np.full(len(users), np.nan)
        if not len(events):
            continue
        asked = held_out(model.spec, past, events, users)
        relevant, seen, missing = asked.relevant, asked.seen, max(k - width, 0)
        if missing:  # a catalogue that is shorter than the list: nothing stands in the rest of it
            relevant, seen = (_widened(matrix, missing) for matrix in (relevant, seen))
        result = full_catalogue(
            _padded(scores, missing) if missing else scores,
            relevant,
            seen,
            k=k,
            metrics=_METRICS,
            extra_relevant=asked.outside,
            resamples=0,
        )
        for metric in _METRICS:
            found[metric, only_tail][result.queries] = result.per_query[f"{metric}@{k}"]
    return found


def _widened(matrix: Any, columns: int) -> Any:
    wide = matrix.copy()
    wide.resize(matrix.shape[0], matrix.shape[1] + columns)
    return wide


def _padded(scores: Any, columns: int) -> Any:
    def wide(rows: np.ndarray) -> np.ndarray:
        block = np.asarray(scores(rows), np.float32)
        return np.pad(block, ((0, 0), (0, columns)), constant_values=block.min() - 1)

    return wide


def _has_evidence(model: Recommender, past: Interactions, users: np.ndarray) -> np.ndarray:
    queries = user_queries(model.spec, past, users)
    return model.has_evidence({name: tf.constant(v) for name, v in queries.items()}).numpy()


# The rules.


def fewest_users(confidence: float) -> int:
    """The least n for which a sign test of n users can be significant: 2 / 2^n <= 1 - c."""
    return math.ceil(math.log2(2 / (1 - confidence)) - 1e-9)


@dataclasses.dataclass(frozen=True)
class _Difference:
    mean: float
    low: float
    high: float
    is_tie: bool
    enough: bool  # users to conclude anything


def _above_on_the_whole(difference: _Difference) -> Outcome:
    return "passed" if difference.enough and difference.low > 0 else "failed"


def _above_on_a_slice(gain: float) -> Any:
    def rule(difference: _Difference) -> Outcome:
        if not difference.enough or difference.is_tie:
            return "open"
        if difference.low > 0:
            return "passed"
        would_have_shown = (difference.high - difference.low) / 2 < gain
        worse = difference.high < 0 or (difference.mean <= 0 and would_have_shown)
        return "failed" if worse else "open"

    return rule


def _not_below(difference: _Difference) -> Outcome:
    if not difference.enough:
        return "open"
    return "failed" if difference.high < 0 else "passed"


@dataclasses.dataclass(frozen=True)
class _Pair:
    part: _Slice
    metric: str
    against: str
    config: EvaluatorConfig
    seed: int

    def compare(self, ours: np.ndarray, theirs: np.ndarray, rule: Any) -> Check:
        """Applies a rule to float64 [u] of both; NaN is left out in pairs."""
        both = np.isfinite(ours) & np.isfinite(theirs)
        users, confidence = int(both.sum()), self.part.confidence
        if not users:
            outcome: Outcome = "failed" if self.part.name == WHOLE else "open"
            return self._check(0, None, None, None, outcome, "there is nobody to tell by")
        a, b = ours[both], theirs[both]
        # An interval's end needs some draws beyond it.
        resamples = max(self.config.resamples, math.ceil(40 / (1 - confidence)))
        found = paired_difference(a, b, self.metric, resamples, self.seed, confidence)
        enough = users >= fewest_users(confidence)
        difference = _Difference(
            found.difference, found.low, found.high, bool((a == b).all()), enough
        )
        outcome = rule(difference)
        doubt = ""
        if not enough:
            doubt = "too few to tell"
        elif outcome == "open" and not difference.is_tie:
            doubt = "which this slice is too small to tell"
        elif outcome == "failed" and found.high >= 0:
            doubt = "which is not surely above it"
        return self._check(users, float(a.mean()), float(b.mean()), difference, outcome, doubt)

    def _check(
        self,
        users: int,
        ours: float | None,
        theirs: float | None,
        difference: _Difference | None,
        outcome: Outcome,
        doubt: str,
    ) -> Check:
        name = shown_metric(self.metric)
        words = name if self.part.name == WHOLE else f"{name} on {self.part.name}"
        if difference is None:
            words += f" can't be compared with {self.against}'s: {doubt}"
        elif difference.is_tie:
            words += f" is {self.against}'s for each of {users:,} users"
            words += f", {doubt}" if doubt else ""
        else:
            way = "above" if difference.mean >= 0 else "below"
            words += (
                f" is {abs(difference.mean):.4f} {way} {self.against}'s "
                f"({self.part.confidence * 100:.4g} % interval of the difference "
                f"{difference.low:+.4f} to {difference.high:+.4f}, {users:,} users)"
            )
            words += f", {doubt}" if doubt else ""
        return Check(
            self.part.name,
            self.metric,
            self.against,
            users,
            ours,
            theirs,
            difference.mean if difference else None,
            difference.low if difference else None,
            difference.high if difference else None,
            self.part.confidence,
            outcome,
            words,
        )


def shown_metric(metric: str) -> str:
    """ "ndcg@10" as people write it."""
    base, at, cut = metric.partition("@")
    return _SHOWN[base] + at + cut


def _threshold(metric: str, value: float, least: float, users: int) -> Check:
    name = shown_metric(metric)
    if math.isnan(value):
        words = f"{name} can't be computed on these test events; at least {least:g} is asked for"
        return Check(
            WHOLE, metric, LEAST, users, None, least, None, None, None, None, "failed", words
        )
    passed = value >= least
    words = f"{name} is {value:.4f}, {'not ' if passed else ''}below the least of {least:g}"
    outcome: Outcome = "passed" if passed else "failed"
    return Check(WHOLE, metric, LEAST, users, value, least, None, None, None, None, outcome, words)
