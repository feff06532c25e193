"""The report of a cold start: methods' curves over the number of events, printed and as a page."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrec_meta.evaluation import Comparison, Evaluation, compare
from tfrec_meta.reports import page
from tfrec_meta.reports.cold_start_chart import chart

NO_ADAPTATION, FINE_TUNING = "no adaptation", "fine-tuning"


@dataclasses.dataclass(frozen=True)
class ColdStartReport:
    """What each method reaches after so many events; prints as a table.

    Attributes:
        evaluations: by method, ours first, then by number of events; all of the same users.
        metric: what the curves are of, as "ndcg@10".
        settings: of each method that has some, by number of events: what was chosen on validation
            users, or the usual one if there are none.
        chosen: whether it was chosen.
        protocol: how users were held out, in words.
        left_out: users held out who have too few events to be asked about.
    """

    evaluations: Mapping[str, Mapping[int, Evaluation]]
    metric: str
    settings: Mapping[str, Mapping[int, str]]
    chosen: bool
    protocol: str
    left_out: int

    @property
    def ours(self) -> str:
        """The method that others are compared with."""
        return next(iter(self.evaluations))

    @property
    def shots(self) -> list[int]:
        """Numbers of events, from the fewest."""
        return list(self.evaluations[self.ours])

    def curve(self, method: str) -> list[float]:
        """The metric of a method at each of the `shots`."""
        return [one[self.metric].value for one in self.evaluations[method].values()]

    def rival(self, shots: int) -> str | None:
        """Who does best after so many events beside ours; without any, of those that are not ours
        without support. None if there is nobody else."""
        own = (self.ours, NO_ADAPTATION, FINE_TUNING) if shots == 0 else (self.ours,)
        others = [name for name in self.evaluations if name not in own]

        def value(name: str) -> float:
            return self.evaluations[name][shots][self.metric].value

        return max(others, key=value, default=None)

    def gained(self, shots: int, method: str | None = None) -> Comparison | None:
        """Paired bootstrap of ours minus another method, by default the `rival`."""
        other = self.rival(shots) if method is None else method
        if other is None:
            return None
        ours, theirs = (self.evaluations[name][shots] for name in (self.ours, other))
        return compare(ours, theirs, self.metric)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        gained = {shots: self.gained(shots) for shots in self.shots}
        return {
            "metric": self.metric,
            "protocol": self.protocol,
            "left_out": self.left_out,
            "chosen_on_validation_users": self.chosen,
            "methods": {
                name: {str(shots): one.as_dict() for shots, one in by_shots.items()}
                for name, by_shots in self.evaluations.items()
            },
            "settings": {
                name: {str(shots): text for shots, text in by_shots.items()}
                for name, by_shots in self.settings.items()
            },
            "rivals": {
                str(shots): {"method": self.rival(shots), **dataclasses.asdict(compared)}
                for shots, compared in gained.items()
                if compared is not None
            },
        }

    def __str__(self) -> str:
        width = max(map(len, self.evaluations))
        lines = [
            f"{self.metric} of {self._counts['queries']:,} cold users, by their number of events "
            f"({self.left_out:,} more have too few)",
            f"{'':<{width}}" + "".join(f"{shots:>9}" for shots in self.shots),
        ]
        for name in self.evaluations:
            lines.append(f"{name:<{width}}" + "".join(f"{v:9.4f}" for v in self.curve(name)))
        return "\n".join([*lines, *(self._conclusion(shots) for shots in self.shots)])

    def write(self, path: Path | str, title: str = "Newcomers") -> Path:
        """Writes the HTML page, whole or not at all.

        Returns:
            The path.
        """
        text = page.render(
            "cold_start.html",
            title=title,
            written=f"Written {datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC",
            metric=self.metric,
            shots=self.shots,
            ours=self.ours,
            rows=[
                {"name": name, "cells": [self._cell(name, shots) for shots in self.shots]}
                for name in self.evaluations
            ],
            chart=chart(
                self.shots,
                {name: self.curve(name) for name in self.evaluations},
                [self.evaluations[self.ours][shots][self.metric] for shots in self.shots],
            ),
            conclusions=[self._conclusion(shots) for shots in self.shots],
            counts=self._counts,
            settings=[
                (name, [by_shots.get(shots, "") for shots in self.shots])
                for name, by_shots in self.settings.items()
            ],
            chosen=self.chosen,
            protocol=self.protocol,
            left_out=self.left_out,
        )
        return page.write(path, text)

    @property
    def _counts(self) -> Mapping[str, int]:
        return self.evaluations[self.ours][self.shots[0]].counts

    def _conclusion(self, shots: int) -> str:
        found = self.evaluations[self.ours][shots][self.metric]
        told = f"after {shots} event{'s' * (shots != 1)}: {found}"
        compared = self.gained(shots)
        if compared is None:
            return told
        return f"{told}, {compared.difference:+.4f} to {self.rival(shots)} (p = {compared.p:.3g})"

    def _cell(self, name: str, shots: int) -> dict[str, str]:
        found = self.evaluations[name][shots][self.metric]
        interval = "" if found.low is None else f"{found.low:.4f} to {found.high:.4f}"
        return {"value": f"{found.value:.4f}", "interval": interval}
