"""`tfrec-meta evaluate`: measures a run's model and its baselines on the test events."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfrec_meta.commands import options
from tfrec_meta.commands.base import Result, command, option
from tfrec_meta.commands.config_option import group_option, with_group
from tfrec_meta.commands.values import Names

if TYPE_CHECKING:
    from tfrec_meta.evaluation import Evaluations


@command(
    "evaluate",
    "",
    "--run runs/first -k 20 --baselines popularity,ease",
    "--run runs/first --json",
    "--run runs/shop --config shop.yaml",
    rereads_data=True,
)
@options.run_option()
@group_option("evaluation")
@options.length_option("Length of the ranked lists.")
@option(
    "--baselines",
    type=Names(none=True),
    metavar="NAMES",
    help="Any of popularity, item_knn, ease, ials, separated by commas; or none (default: all).",
)
@option(
    "--tune-baselines/--no-tune-baselines",
    default=True,
    help="Choose the settings of baselines on validation events, or use their defaults "
    "(default: choose).",
)
@options.resamples_option
@options.recommend_history_option("Evaluate")
def evaluate(
    run: str,
    config: str | None,
    k: int,
    baselines: Sequence[str] | None,
    tune_baselines: bool,
    resamples: int,
    recommend_history: bool,
) -> Result:
    """Evaluates the run's model and stores the result in the run folder."""
    from tfrec_meta.evaluation import format_groups
    from tfrec_meta.workflows.runs import Run

    this = Run.open(run)
    with with_group(
        config,
        "evaluation",
        this,
        k=k,
        baselines=baselines,
        tune_baselines=tune_baselines,
        resamples=resamples,
    ) as settings:
        found = this.evaluate(settings, recommend_history)
    lines = [
        f"{this.split.data.name}, {this.split.description}: full-catalogue ranking",
        *found.remarks(),
        *_table(found, settings.k),
        *format_groups({next(iter(found)): next(iter(found.values()))}).splitlines(),
        *found.summary(),
        *_predictions(found),
        f"all metrics, with 95 % intervals: {this.folder / 'evaluation.json'}",
        f"next: tfrec-meta report --run {shlex.quote(str(this.folder))}",
    ]
    content = {
        "run": str(this.folder),
        "k": settings.k,
        "split": this.split.description,
        **found.as_dict(),
    }
    return Result(content, "\n".join(lines))


def _predictions(found: Evaluations) -> list[str]:
    """The metrics of predicted ratings or clicks, beside those of a constant prediction."""
    if not found.predictions:
        return []
    return ["predictions of the test events:", *str(found.predictions).splitlines()]


def _table(found: Mapping[str, Any], k: int) -> list[str]:
    """The most common metrics, in lines that fit a terminal."""
    names = [f"{metric}@{k}" for metric in ("ndcg", "recall", "hr", "map", "coverage")]
    lines = [f"{'model':<22}{names[0]:<26}" + "".join(f"{name:>13}" for name in names[1:])]
    for model, one in found.items():
        others = "".join(f"{one[name].value:>13.4f}" for name in names[1:])
        lines.append(f"{model:<22}{one[names[0]]!s:<26}{others}")
    return lines
