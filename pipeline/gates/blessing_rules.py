"""The rules by which the ranking gate blesses a model, and the sentences that explain them.

The candidate, the last blessed model and popularity rank the complete catalogue for the same users
and held-out events, without the items of the users' past. Differences are assessed by the interval
of a paired bootstrap, for all users and on slices:

Above popularity. For all users, the interval of model minus popularity must lie above 0. On a
slice, only users with evidence count, since the model ranks by popularity for the others. There the
model fails if the interval lies below 0, or if its mean is not above popularity's although the
slice would have shown a gain as large as that over all users (the half-width of the interval is
less than that gain). Otherwise the slice has too few users and does not block: a gain that can't be
detected now could not be detected in the next run either.

Not below the last blessed model. The model fails if the interval of model minus last blessed model
lies below 0, for all users or on a slice: it is significantly worse.

With very few users the result is inconclusive: with n users no sign test is significant if 2 / 2^n
is above 1 - confidence, and the bootstrap's interval is too narrow. Values of one column share the
error: each of m values has a confidence level of 1 - (1 - confidence) / m.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from tfrec_meta.data import Interactions
from tfrec_meta.evaluation.intervals import paired_difference
from tfrec_meta.models import Recommender
from tfrec_meta.pipeline.config import EvaluatorConfig
from tfrec_meta.pipeline.gates.user_metrics import (
    METRICS,
    Queries,
    Slice,
    fewest_users,
    has_evidence,
    long_tail_events,
    metrics_of,
    metrics_of_popularity,
    slices_of,
)
from tfrec_meta.pipeline.gates.verdict import (
    Check,
    Outcome,
    Reference,
    SliceName,
    Verdict,
    shown_metric,
    shown_slice,
)

_MAX_REASONS = 4  # in one sentence


def unchanged_model() -> Verdict:
    """Returns the verdict for a candidate that is the last blessed model."""
    return Verdict(True, "Blessed: this is the last blessed model itself, so nothing is compared.")


def evaluate_candidate(
    model: Recommender,
    baseline: Recommender | None,
    past: Interactions,
    test: Interactions,
    config: EvaluatorConfig,
    auc: float | None = None,
    seed: int = 42,
    *,
    recommend_history: bool = False,
) -> Verdict:
    """Compares the model with popularity, with the last blessed model, and with the thresholds.

    Args:
        model: the candidate.
        baseline: the last blessed model; None in the first run.
        past: the events that are known at test time, users and items.
        test: the held-out events; with declared feedback, only the positive ones are relevant.
        config: thresholds, slices, and options of the bootstrap.
        auc: AUC of the ranking signature over all test events, computed by TFMA.
        seed: seed of the bootstrap.
        recommend_history: whether items of the past are ranked like all others.

    Raises:
        ValueError: if `config.slices` has a column that neither users nor events have.
    """
    if not len(test):
        return _refused("there are no test events. Check the split.")
    test = test.positive_events()
    if not len(test):
        return _refused("no test event is positive, as the feedback is declared.")
    users = test.user_ids
    slices, notes = slices_of(past, test, users, config)
    tail = long_tail_events(past, test, config.long_tail)
    queries = Queries(past, test, tail, users, config.k, recommend_history)
    try:
        candidate = metrics_of(model, queries)
    except ValueError as error:  # mostly NaN scores
        return _refused(f"its scores can't be ranked ({error}).")
    popular = metrics_of_popularity(model, queries)
    last = None if baseline is None else metrics_of(baseline, queries)
    known = has_evidence(model, past, users)

    checks: list[Check] = []
    for metric in METRICS:
        name, gain = f"{metric}@{config.k}", 0.0
        for part in slices:
            a = np.where(part.users, candidate[metric, part.only_tail], np.nan)
            pair = _Pair(part, name, Reference.POPULARITY, config, seed)
            b = popular[metric, part.only_tail]
            if part.name == SliceName.ALL_USERS:
                check = pair.compare(a, b, _above_for_all_users)
                gain = check.difference or 0.0
            else:
                check = pair.compare(np.where(known, a, np.nan), b, _above_on_a_slice(gain))
            checks.append(check)
            if last is not None:
                pair = _Pair(part, name, Reference.LAST_BLESSED, config, seed)
                checks.append(pair.compare(a, last[metric, part.only_tail], _not_below))
        minimum = getattr(config, f"min_{metric}")
        if minimum > 0:
            mean = float(np.nanmean(candidate[metric, False]))
            checks.append(_threshold(name, mean, minimum, len(users)))
    if config.min_auc is not None:
        checks.append(_threshold("auc", math.nan if auc is None else auc, config.min_auc, 0))
    unknown = int((~known).sum())
    if unknown:
        notes.append(
            f"{unknown:,} of the {len(users):,} test users have no history that the model can use. "
            "It ranks by popularity for them, so the comparisons with popularity on slices leave "
            "them out."
        )
    return _verdict(checks, notes, baseline is not None)


def _refused(why: str) -> Verdict:
    return Verdict(False, f"Not blessed: {why}")


def _verdict(checks: Sequence[Check], notes: Sequence[str], has_baseline: bool) -> Verdict:
    failed = [check.words for check in checks if check.outcome == Outcome.FAILED]
    if failed:
        further = len(failed) - _MAX_REASONS
        more = f"; and {further} more" if further > 0 else ""
        words = "Not blessed: " + "; ".join(failed[:_MAX_REASONS]) + more + "."
    else:
        words = "Blessed: " + checks[0].words
        words += (
            ", and nothing is significantly below the last blessed model's."
            if has_baseline
            else "."
        )
    return Verdict(not failed, words, tuple(checks), tuple(notes))


@dataclasses.dataclass(frozen=True)
class _Difference:
    mean: float
    low: float
    high: float
    is_tie: bool
    enough: bool  # users for a conclusion


def _above_for_all_users(difference: _Difference) -> Outcome:
    return Outcome.PASSED if difference.enough and difference.low > 0 else Outcome.FAILED


def _above_on_a_slice(gain: float) -> Rule:
    def rule(difference: _Difference) -> Outcome:
        if not difference.enough or difference.is_tie:
            return Outcome.INCONCLUSIVE
        if difference.low > 0:
            return Outcome.PASSED
        would_have_shown = (difference.high - difference.low) / 2 < gain
        worse = difference.high < 0 or (difference.mean <= 0 and would_have_shown)
        return Outcome.FAILED if worse else Outcome.INCONCLUSIVE

    return rule


def _not_below(difference: _Difference) -> Outcome:
    if not difference.enough:
        return Outcome.INCONCLUSIVE
    return Outcome.FAILED if difference.high < 0 else Outcome.PASSED


Rule = Callable[[_Difference], Outcome]


@dataclasses.dataclass(frozen=True)
class _Pair:
    part: Slice
    metric: str
    against: Reference
    config: EvaluatorConfig
    seed: int

    def compare(self, candidate: np.ndarray, other: np.ndarray, rule: Rule) -> Check:
        """Applies a rule to float64 [users] of both; users with a NaN are left out."""
        both = np.isfinite(candidate) & np.isfinite(other)
        users, confidence = int(both.sum()), self.part.confidence
        if not users:
            outcome = (
                Outcome.FAILED if self.part.name == SliceName.ALL_USERS else Outcome.INCONCLUSIVE
            )
            return self._check(0, None, None, None, outcome, "there are no such users")
        a, b = candidate[both], other[both]
        # The end of an interval needs some samples beyond it.
        resamples = max(self.config.resamples, math.ceil(40 / (1 - confidence)))
        found = paired_difference(a, b, self.metric, resamples, self.seed, confidence)
        enough = users >= fewest_users(confidence)
        difference = _Difference(
            found.difference, found.low, found.high, bool((a == b).all()), enough
        )
        outcome = rule(difference)
        doubt = ""
        if not enough:
            doubt = "too few users for a conclusion"
        elif outcome == Outcome.INCONCLUSIVE and not difference.is_tie:
            doubt = "too few users to detect a difference"
        elif outcome == Outcome.FAILED and found.high >= 0:
            doubt = "not significantly above it"
        return self._check(users, float(a.mean()), float(b.mean()), difference, outcome, doubt)

    def _check(
        self,
        users: int,
        candidate: float | None,
        other: float | None,
        difference: _Difference | None,
        outcome: Outcome,
        doubt: str,
    ) -> Check:
        words = shown_metric(self.metric)
        if self.part.name != SliceName.ALL_USERS:
            words += f" on {shown_slice(self.part.name)}"
        if difference is None:
            words += f" can't be compared with {self.against.words}'s: {doubt}"
        elif difference.is_tie:
            words += f" equals {self.against.words}'s for each of {users:,} users"
            words += f", {doubt}" if doubt else ""
        else:
            way = "above" if difference.mean >= 0 else "below"
            words += (
                f" is {abs(difference.mean):.4f} {way} {self.against.words}'s "
                f"({self.part.confidence * 100:.4g} % interval of the difference "
                f"{difference.low:+.4f} to {difference.high:+.4f}, {users:,} users)"
            )
            words += f", {doubt}" if doubt else ""
        return Check(
            self.part.name,
            self.metric,
            self.against,
            users,
            candidate,
            other,
            difference.mean if difference else None,
            difference.low if difference else None,
            difference.high if difference else None,
            self.part.confidence,
            outcome,
            words,
        )


def _threshold(metric: str, value: float, minimum: float, users: int) -> Check:
    name = shown_metric(metric)
    if math.isnan(value):
        words = f"{name} can't be computed on these test events; at least {minimum:g} is required"
        return _threshold_check(metric, users, None, minimum, Outcome.FAILED, words)
    passed = value >= minimum
    words = f"{name} is {value:.4f}, {'not ' if passed else ''}below the threshold of {minimum:g}"
    outcome = Outcome.PASSED if passed else Outcome.FAILED
    return _threshold_check(metric, users, value, minimum, outcome, words)


def _threshold_check(
    metric: str, users: int, value: float | None, minimum: float, outcome: Outcome, words: str
) -> Check:
    return Check(
        slice=SliceName.ALL_USERS,
        metric=metric,
        against=Reference.THRESHOLD,
        users=users,
        model=value,
        other=minimum,
        difference=None,
        low=None,
        high=None,
        confidence=None,
        outcome=outcome,
        words=words,
    )
