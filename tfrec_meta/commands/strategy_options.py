"""The options of the strategy, and the settings of a run that they stand for."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfrec_meta.commands.base import option
from tfrec_meta.commands.options import collected, given
from tfrec_meta.commands.values import ExistingFile
from tfrec_meta.errors import ParameterError
from tfrec_meta.models.registry import FAMILIES

_PARTS = ("model", "training", "features")
_model = functools.partial(option, section="Model")


@dataclasses.dataclass(frozen=True)
class StrategyOptions:
    """The strategy and the seed, as given on the command line. None: not given."""

    family: str | None = None
    epochs: int | None = None
    seed: int | None = None
    strategy: str | None = None

    @contextmanager
    def errors_of_file(self) -> Iterator[None]:
        """Raises errors about fields that the strategy file sets with the name of the file."""
        try:
            yield
        except ParameterError as error:
            given_here = {name for name in ("family", "epochs", "seed") if getattr(self, name)}
            record = {} if self.strategy is None else read_strategy(Path(self.strategy))
            if error.parameter not in set(_names(record)) - given_here:
                raise
            raise ParameterError(f"`strategy`: in {self.strategy}, {error}", "strategy") from error

    def settings(self) -> dict[str, Any]:
        """Returns the given values as settings of a run.

        Raises:
            ValueError: if the file of `strategy` holds something else.
        """
        strategy = {} if self.strategy is None else read_strategy(Path(self.strategy))
        training = {**strategy.get("training", {}), **given({"epochs": self.epochs})}
        settings: dict[str, Any] = {}
        if self.seed is not None:
            settings["seed"] = training["seed"] = self.seed
        if self.family is not None:
            strategy["family"] = self.family
        if training:
            strategy["training"] = training
        return {**settings, "strategy": strategy} if strategy else settings


def read_strategy(path: Path) -> dict[str, Any]:
    """Reads the JSON of a strategy, or of a part of one, as `Strategy.as_dict` returns it.

    Raises:
        ParameterError: if the file holds something else.
    """
    from tfrec_meta.workflows.run_settings import STRATEGY_FIELDS

    try:
        strategy = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise ParameterError(f"`strategy`: {path} is not JSON: {reason}.", "strategy") from error
    if not isinstance(strategy, dict) or set(strategy) - set(STRATEGY_FIELDS):
        raise ParameterError(
            f"`strategy`: {path} must hold one JSON object with any of "
            f"{', '.join(STRATEGY_FIELDS)}.",
            "strategy",
        )
    for part in _PARTS:
        if not isinstance(strategy.get(part, {}), dict):
            raise ParameterError(
                f"`strategy`: {part} in {path} is {strategy[part]!r}; use a JSON object.",
                "strategy",
            )
    return strategy


def _names(record: Any) -> Iterator[str]:
    """All names in a record, also those in records within it."""
    if isinstance(record, dict):
        yield from record
    children = record.values() if isinstance(record, dict) else record
    if isinstance(record, dict | list):
        for child in children:
            yield from _names(child)


def strategy_options(function: Any) -> Any:
    """Declares the options of the model, which the command gets as `strategy`."""
    options = [
        _model(
            "--family",
            metavar="NAME",
            help=f"Model family (default two_tower): {', '.join(FAMILIES)}.",
        ),
        _model("--epochs", type=int, metavar="N", help="Passes over the events."),
        _model("--seed", type=int, metavar="N", help="Seed of split and training (default 42)."),
        _model(
            "--strategy",
            type=ExistingFile(),
            metavar="FILE",
            help="JSON with any of family, model, training, history_length, teacher, use_weights.",
        ),
    ]
    return collected(StrategyOptions, "strategy", options)(function)
