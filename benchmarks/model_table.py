"""All models on MovieLens-100K in one table: quality with intervals, training time, size on disk.

There are two splits: by item, with 75 % of each item's events for training (seed 42), and
leave-last-out, where each user's last event is predicted from all earlier ones. The whole catalogue
is ranked, seen items are removed, and nothing is chosen or stopped on test rows. All models have
the library's defaults, whose configs state how they were chosen, with these exceptions: closed
forms use the whole history, order-aware encoders are trained on windows, spectral embeddings are
trained for four epochs, and a student learns from the ensemble. Times are those of training on the
split by item, including the FeatureSpec, one model after the other: the lower of wall time and CPU
time (of all cores together), since the machine may have other work. Size is that of the folder that
`tfrec_meta.save` writes.

`--write` writes the table into docs/models.md. The slowest models take minutes, so results are
stored in model_table.json next to this file, with commit and date. A run continues with the models
that are missing or were measured with another strategy. Delete that file to measure all again.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.evaluation import Estimate
from tfrec_meta.models import Recommender

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
RECORD = Path(__file__).with_suffix(".json")
_WINDOWS = tm.TrainingConfig(rows="windows")

STRATEGIES: dict[str, tm.Strategy] = {
    "two-tower, mean of the history": tm.Strategy("two_tower"),
    "two-tower, spectral start": tm.Strategy(
        "two_tower",
        tm.TwoTowerConfig(item_initializer="spectral"),
        tm.TrainingConfig(epochs=4),  # chosen on a fifth of the train rows (split by item, seed 7)
    ),
    **{
        f"two-tower, {encoder}": tm.Strategy(
            "two_tower", tm.TwoTowerConfig(encoder=encoder), _WINDOWS
        )
        for encoder in ("attention", "gru", "convolution", "transformer")
    },
    "iALS": tm.Strategy("ials", history_length=1000),
    "EASE": tm.Strategy("ease", history_length=1000),
    "low-rank EASE": tm.Strategy("low_rank_ease", history_length=1000),
    "item-kNN": tm.Strategy("item_knn", history_length=1000),
    "popularity": tm.Strategy("popularity"),
    "content tower": tm.Strategy(
        "content_tower",
        training=tm.TrainingConfig(epochs=15, batch_size=4096, learning_rate=0.003),
    ),
    "meta-learned": tm.Strategy("meta_learned"),
    "meta-ranker": tm.Strategy("meta_ranker", tm.MetaRankerConfig("interaction")),
    "ensemble of two-tower and iALS": tm.Strategy("ensemble", history_length=1000),
    "two-tower, distilled from the ensemble": tm.Strategy(
        "two_tower", tm.TwoTowerConfig(negatives="full"), history_length=1000
    ),
    **{
        f"ranker, {interaction}": tm.Strategy("ranker", tm.RankerConfig(interaction=interaction))
        for interaction in ("mlp", "dcn", "dlrm", "deepfm")
    },
    **{
        f"multi-task, {bottom}": tm.Strategy("multi_task", tm.MultiTaskConfig(bottom=bottom))
        for bottom in ("shared", "mmoe", "ple")
    },
    "two-stage, iALS then two-tower": tm.Strategy("two_stage", history_length=1000),
}
TEACHERS = {"two-tower, distilled from the ensemble": "ensemble of two-tower and iALS"}


@dataclasses.dataclass(frozen=True)
class Measured:
    """One model on one split: two metrics, seconds and megabytes."""

    ndcg: Estimate
    recall: Estimate
    seconds: float
    megabytes: float

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Measured:
        """Takes back what `dataclasses.asdict` gave."""
        estimates = {name: Estimate(**record[name]) for name in ("ndcg", "recall")}
        return cls(**{**record, **estimates})


def measure(
    split: tm.Split, strategy: tm.Strategy, teacher: Recommender | None, resamples: int
) -> tuple[Recommender, Measured]:
    """Trains on the train part, evaluates on the test part, saves."""
    began, worked = time.perf_counter(), time.process_time()
    model = tm.train(split, strategy, teacher=teacher, progress=False)
    seconds = min(time.perf_counter() - began, time.process_time() - worked)
    (found,) = tm.evaluate(model, split, baselines=(), resamples=resamples).values()
    with tempfile.TemporaryDirectory() as folder:
        tm.save(model, Path(folder) / "model")
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return model, Measured(found["ndcg@10"], found["recall@10"], seconds, size / 1e6)


def measure_all(split: tm.Split, quick: bool, seed: int) -> dict[str, Measured]:
    """All of `STRATEGIES`, in their order; what was measured before a kill is read."""
    found: dict[str, Measured] = {}
    teachers: dict[str, Recommender] = {}
    digest = split.train.digest()[:16]
    for name, strategy in STRATEGIES.items():
        recipe = dataclasses.replace(strategy.training, seed=seed)
        if quick:
            recipe = dataclasses.replace(recipe, epochs=1)
        strategy = dataclasses.replace(strategy, training=recipe)
        entry = f"{digest}: {name}"
        told = json.dumps({"strategy": strategy.as_dict(), "quick": quick}, sort_keys=True)
        asked = hashlib.sha256(told.encode()).hexdigest()[:16]
        record = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
        if record.get(entry, {}).get("asked") == asked:
            found[name] = Measured.of(record[entry]["measured"])
            continue
        teacher = None
        if name in TEACHERS:
            of_teacher = dataclasses.replace(STRATEGIES[TEACHERS[name]], training=recipe)
            teacher = teachers.get(TEACHERS[name]) or tm.train(split, of_teacher, progress=False)
        model, found[name] = measure(split, strategy, teacher, 100 if quick else 1000)
        if name in TEACHERS.values():
            teachers[name] = model
        if not quick:
            record[entry] = {
                "asked": asked,
                "measured": dataclasses.asdict(found[name]),
                "environment": arguments.environment(),
            }
            RECORD.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        print(f"{split.protocol}: {name}: {found[name]}", file=sys.stderr, flush=True)
        del model
        gc.collect()  # models hold themselves in cycles
    return found


def markdown(stratified: Mapping[str, Measured], last: Mapping[str, Measured]) -> str:
    """The table, best NDCG@10 on the stratified split first."""
    lines = [
        "| model | NDCG@10 | recall@10 | NDCG@10, last out | HR@10, last out | seconds | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sorted(stratified, key=lambda name: -stratified[name].ndcg.value):
        one, two = stratified[name], last[name]
        lines.append(
            f"| {name} | {one.ndcg} | {one.recall} | {two.ndcg} | {two.recall} "
            f"| {one.seconds:.1f} | {one.megabytes:.1f} |"
        )
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with the table between its markers.

    Raises:
        ValueError: if the page has no such markers.
    """
    begin, end = "<!-- results: model_table -->", "<!-- end of results -->"
    changed, times = re.subn(
        f"{begin}.*?{end}", lambda _: f"{begin}\n\n{table}\n\n{end}", page, count=1, flags=re.S
    )
    if not times:
        raise ValueError(f"The page has no lines {begin} and {end}; put them where it belongs.")
    return changed


def main() -> None:
    """Trains, evaluates, prints."""
    chosen = arguments.parse(__doc__, switches={"write": "put the table into docs/models.md"})
    data = arguments.load(chosen.data)
    stratified = measure_all(
        tm.split_by_item(data, train=0.75, seed=chosen.seed), chosen.quick, chosen.seed
    )
    last = measure_all(tm.split_leave_last_out(data, validation=False), chosen.quick, chosen.seed)
    table = markdown(stratified, last)
    print(table)
    if chosen.write:
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), table), "utf-8")
    arguments.finish(
        {
            "stratified": {name: dataclasses.asdict(each) for name, each in stratified.items()},
            "leave_last_out": {name: dataclasses.asdict(each) for name, each in last.items()},
        },
        chosen,
    )


if __name__ == "__main__":
    main()
