"""Hyperband's brackets, on spaces of any size, with few trials and with failed trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import keras_tuner

from tfrec_meta.tuning.oracles.base import has_ended, succeeded


class BracketOracle(keras_tuner.oracles.HyperbandOracle):
    """KerasTuner's Hyperband, whose brackets may get fewer trials than planned.

    KerasTuner's own oracle ends the search when it finds no new point or has used up
    `max_trials`, even if no trial has had the full number of epochs yet. It also promotes failed
    trials or waits for their scores. Here a bracket starts with no more points than the remaining
    trials can take through all of its rounds, and a bracket that gets no further points halves
    those that it has. Its rounds have as many trials as there are successful ones. So the best
    trial of each bracket has the full number of epochs.
    """

    _brackets: list[dict[str, Any]]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns a new trial of a bracket, or a promoted trial with more epochs."""
        self._remove_completed_brackets()
        for bracket in self._brackets:
            self._limit(bracket)
            values = self._new_point(bracket) or self._promotion(trial_id, bracket)
            if values is not None:
                place = {"past_id": values.get("tuner/trial_id"), "id": trial_id}
                bracket["rounds"][values["tuner/round"]].append(place)
                return {"status": "RUNNING", "values": values}
        was_last = self._current_bracket == 0 and (
            self._current_iteration + 1 == self.hyperband_iterations
        )
        # A bracket without any point shows that the space is exhausted.
        is_exhausted = any(bracket.get("points") == 0 for bracket in self._brackets)
        if was_last or is_exhausted or self._trials_left() < 1:
            return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
        self._increment_bracket_num()
        self._start_new_bracket()
        return self.populate_space(trial_id)

    def _limit(self, bracket: dict[str, Any]) -> None:
        """Fits a bracket that has no trial yet to the number of remaining trials.

        If they are too few for rounds of decreasing size, the bracket has fewer rounds, which
        start with more epochs.
        """
        left = self._trials_left(bracket)
        if bracket["rounds"][0] or sum(self._round_sizes(bracket)) <= left:
            return
        for number in range(bracket["bracket_num"], -1, -1):
            smaller = {"bracket_num": number, "rounds": [[] for _ in range(number + 1)]}
            for points in range(self._get_size(number, 0), number, -1):
                sizes = self._round_sizes({**smaller, "points": points})
                falls = all(one > other for one, other in itertools.pairwise(sizes))
                if falls and sum(sizes) <= left:
                    bracket.update(smaller, points=points)
                    return

    def _trials_left(self, excluded: Mapping[str, Any] | None = None) -> float:
        """Returns the number of trials that no bracket needs, `excluded` left aside."""
        if self.max_trials is None:
            return math.inf
        needed = 0
        for bracket in self._brackets:
            if bracket is not excluded:
                started = map(len, bracket["rounds"])
                needed += sum(self._round_sizes(bracket)) - sum(started)
        return float(self.max_trials - len(self.trials) - needed)

    def _new_point(self, bracket: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the values of a bracket's next point; None if it has all its points."""
        first = bracket["rounds"][0]
        if len(first) >= self._size(bracket, 0):
            return None
        values = self._random_values()
        if values is None:
            bracket["points"] = len(first)
            return None
        return {**values, **self._budget(bracket, 0)}

    def _promotion(self, trial_id: str, bracket: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the values of a bracket's best trial that is ready for the next round."""
        rounds = bracket["rounds"]
        for number, (before, size) in enumerate(itertools.pairwise(self._round_sizes(bracket)), 1):
            promoted = {place["past_id"] for place in rounds[number]}
            past = self._trials_of(rounds[number - 1])
            ended = [t for t in past if t.trial_id not in promoted and has_ended(t)]
            candidates = [trial for trial in ended if succeeded(trial)]
            # A trial may go on before its round has ended if it is certain to be among the best.
            if candidates and len(promoted) < size and len(ended) > before - size:
                sign = 1.0 if self.objective.direction == "max" else -1.0
                best = max(candidates, key=lambda trial: sign * trial.score)
                values = dict(best.hyperparameters.values)
                return {**values, **self._budget(bracket, number), "tuner/trial_id": best.trial_id}
        return None

    def _round_sizes(self, bracket: Mapping[str, Any]) -> list[int]:
        """Returns the number of trials that each round of a bracket will have."""
        rounds = bracket["rounds"]
        expected = [self._size(bracket, 0)]
        for number in range(1, len(rounds)):
            size = min(self._size(bracket, number), expected[-1])
            past = self._trials_of(rounds[number - 1])
            if len(past) == expected[-1] and all(map(has_ended, past)):
                size = min(size, sum(map(succeeded, past)))
            expected.append(size)
        return expected

    def _size(self, bracket: Mapping[str, Any], round_num: int) -> int:
        """Returns the number of trials of a round if none fails."""
        size = self._get_size(bracket["bracket_num"], round_num)
        points = bracket.get("points")
        return size if points is None else min(size, math.ceil(points / self.factor**round_num))

    def _trials_of(self, places: list[dict[str, Any]]) -> list[Any]:
        return [self.trials[place["id"]] for place in places]

    def _budget(self, bracket: Mapping[str, Any], round_num: int) -> dict[str, int]:
        number = bracket["bracket_num"]
        before = 0 if round_num == 0 else self._get_epochs(number, round_num - 1)
        return {
            "tuner/epochs": self._get_epochs(number, round_num),
            "tuner/initial_epoch": before,
            "tuner/bracket": number,
            "tuner/round": round_num,
        }

    def _remove_completed_brackets(self) -> None:
        self._brackets = [
            bracket
            for bracket in self._brackets
            if bracket.get("points") == 0
            or len(bracket["rounds"][-1]) < self._round_sizes(bracket)[-1]
        ]
