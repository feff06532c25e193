"""`tfrec-meta train`: trains a model into a run folder."""

from __future__ import annotations

import shlex
import time
from typing import Any

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, command, note, option
from tfrec_meta.commands.config_option import config_option, with_config
from tfrec_meta.commands.data_options import (
    DataOptions,
    FeedbackOptions,
    data_options,
    feedback_options,
)
from tfrec_meta.commands.strategy_options import StrategyOptions, strategy_options


@command(
    "train",
    "",
    "--run runs/ease --family ease",
    "--run runs/time --split time --epochs 20 --seed 1",
    "--run runs/shop --data log.csv --columns user_id=customer,item_id=product",
    "--run runs/wide --strategy wide.json",
    "--run runs/shop --data log.csv --event-weights view=1,purchase=10 --target purchase",
    "--run runs/shop --config shop.yaml --family two_tower",
    resumes=True,
)
@options.run_option()
@config_option()
@option("--overwrite", is_flag=True, help="Replace the run in that folder.")
@data_options()
@feedback_options
@strategy_options
@options.recommend_history_option("Validate and evaluate")
def train(
    run: str,
    config: str | None,
    overwrite: bool,
    data: DataOptions,
    feedback: FeedbackOptions,
    strategy: StrategyOptions,
    recommend_history: bool,
) -> Result:
    """Trains the run's model, unless it is trained already."""
    from tfrec_meta.workflows.runs import Run

    given = {**data.settings(), **feedback.settings(), **strategy.settings()}
    if recommend_history:
        given["recommend_history"] = True
    with with_config(config, given) as settings, strategy.errors_of_file():
        this = Run.begin(run, settings, overwrite)
    if this.is_trained:
        note(f"{this.folder} is already trained; --overwrite trains it again.")
        model = this.model()
        return Result(_content(this, model, 0.0), "\n".join(_personal_lines(model)))
    split = this.split
    note(f"{split.data!r}, {split.description}: {len(split.train_index):,} training events")
    began = time.monotonic()
    model = this.train()
    seconds = time.monotonic() - began
    lines = [f"trained {model.family} in {seconds:.1f} s: {this.folder / 'model'}"]
    if model.curve:
        lines.append(kept_epoch(model))
    lines += _personal_lines(model)
    lines.append(f"next: tfrec-meta evaluate --run {shlex.quote(str(this.folder))}")
    return Result(_content(this, model, seconds), "\n".join(lines))


def kept_epoch(model: Any) -> str:
    """Returns the epoch whose weights the model has, with its figures.

    Args:
        model: a trained model with a learning curve.
    """
    scored = [line for line in model.curve if model.objective in line] or model.curve[-1:]
    kept = max(scored, key=lambda line: model.objective.score(line.get(model.objective, 0.0)))
    figures = (f"{k} {v:.4g}" for k, v in kept.items() if k not in ("epoch", "seconds"))
    return f"kept epoch {kept['epoch']} of {len(model.curve)}: {', '.join(figures)}"


def _content(run: Any, model: Any, seconds: float) -> dict[str, Any]:
    from tfrec_meta.export.personal_data import used_columns

    return {
        "run": str(run.folder),
        "model": str(run.folder / "model"),
        "family": model.family,
        "events": len(run.split.train_index),
        "seconds": seconds,
        "curve": [dict(epoch) for epoch in model.curve],
        "personal_columns": [used.as_dict() for used in used_columns(model)],
    }


def _personal_lines(model: Any) -> list[str]:
    """Lists the columns that look personal with what happens to them; no value is shown."""
    from tfrec_meta.export.personal_data import used_columns

    found = [f"  {used.column}: {used.use.sentence}" for used in used_columns(model)]
    return ["columns that look personal:", *found] if found else []
