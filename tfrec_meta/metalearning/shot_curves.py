"""k-shot curves: the quality of recommendations for cold users, by number of support events."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from tfrec_meta.evaluation import Comparison, Evaluation, compare


class Reference(enum.StrEnum):
    """Variants of the evaluated model that its adaptation is compared with."""

    NO_ADAPTATION = "no_adaptation"
    """The model without any support event."""
    FINE_TUNING = "fine_tuning"
    """Plain gradient steps on a user vector instead of the model's own adaptation."""


@dataclasses.dataclass(frozen=True)
class ShotCurves:
    """Evaluations of methods on the same cold users, by number of events; prints as a table.

    Attributes:
        evaluations: by method, the evaluated model first, then by number of events.
        metric: name of the metric that is compared, such as "ndcg@10".
        settings: of the methods that have settings, by method and number of events.
        tuned: whether the settings were chosen on validation users; otherwise they are defaults.
        protocol: how users were held out, in words.
        left_out: held-out users with too few events to be evaluated.
    """

    evaluations: Mapping[str, Mapping[int, Evaluation]]
    metric: str
    settings: Mapping[str, Mapping[int, str]]
    tuned: bool
    protocol: str
    left_out: int

    @property
    def model(self) -> str:
        """Name of the evaluated model, with which the other methods are compared."""
        return next(iter(self.evaluations))

    @property
    def shots(self) -> list[int]:
        """Numbers of events, from the smallest."""
        return list(self.evaluations[self.model])

    def curve(self, method: str) -> list[float]:
        """Returns the metric of a method at each number of events in `shots`."""
        return [one[self.metric].value for one in self.evaluations[method].values()]

    def best_other(self, shots: int) -> str | None:
        """Returns the method that is best at a number of events, apart from the model.

        Without events the `Reference` methods equal the model and are left out. None if no other
        method is left.
        """
        excluded = (self.model, *Reference) if shots == 0 else (self.model,)
        others = [name for name in self.evaluations if name not in excluded]

        def value(name: str) -> float:
            return self.evaluations[name][shots][self.metric].value

        return max(others, key=value, default=None)

    def compare(self, shots: int, method: str | None = None) -> Comparison | None:
        """Compares the model with another method by a paired bootstrap over users.

        Args:
            shots: number of events.
            method: the other method; by default `best_other`.

        Returns:
            The difference, model minus method; None if there is no other method.
        """
        other = self.best_other(shots) if method is None else method
        if other is None:
            return None
        model, reference = (self.evaluations[name][shots] for name in (self.model, other))
        return compare(model, reference, self.metric)

    def conclusion(self, shots: int) -> str:
        """Describes the model's result at a number of events, in one sentence."""
        found = self.evaluations[self.model][shots][self.metric]
        text = f"after {shots} event{'s' * (shots != 1)}: {found}"
        compared = self.compare(shots)
        if compared is None:
            return text
        difference = f"{compared.difference:+.4f}"
        return f"{text}, {difference} compared with {self.best_other(shots)} (p = {compared.p:.3g})"

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        compared = {shots: self.compare(shots) for shots in self.shots}
        return {
            "metric": self.metric,
            "protocol": self.protocol,
            "left_out": self.left_out,
            "tuned_on_validation_users": self.tuned,
            "methods": {
                name: {str(shots): one.as_dict() for shots, one in by_shots.items()}
                for name, by_shots in self.evaluations.items()
            },
            "settings": {
                name: {str(shots): text for shots, text in by_shots.items()}
                for name, by_shots in self.settings.items()
            },
            "best_others": {
                str(shots): {"method": self.best_other(shots), **dataclasses.asdict(one)}
                for shots, one in compared.items()
                if one is not None
            },
        }

    def __str__(self) -> str:
        width = max(map(len, self.evaluations))
        users = self.evaluations[self.model][self.shots[0]].counts["queries"]
        lines = [
            f"{self.metric} of {users:,} cold users, by number of events "
            f"({self.left_out:,} more have too few)",
            f"{'':<{width}}" + "".join(f"{shots:>9}" for shots in self.shots),
        ]
        for name in self.evaluations:
            lines.append(f"{name:<{width}}" + "".join(f"{v:9.4f}" for v in self.curve(name)))
        return "\n".join([*lines, *(self.conclusion(shots) for shots in self.shots)])
