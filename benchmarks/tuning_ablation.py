"""An ablation of the memory of studies.

    python -m benchmarks.tuning_ablation

Each of the shipped studies of real models is left out in turn and searched again among its own
recorded trials, with the others as memory: regret, 0 at the best trial and 1 at the median one,
after 2, 3, 5 and 10 trials, the default first; means over studies and seeds, and the paired
difference to `memory` after 5 trials with its 95 % bootstrap interval over studies.

- `none`: without a memory; `memory`: all earlier studies weighted equally, which is the default.
- `profile`: weighted by the similarity of their data's profile; `text`: by that of the BERT
  embedding of their data's texts, where available; `both`.
- `curves`: the epochs that `is_hopeless` saves on recorded learning curves, in the order in which
  `memory` tries the trials, and the loss of the best trial.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

import tfrec_meta as tm
from benchmarks import record_studies
from benchmarks.arguments import environment
from tfrec_meta.distillation import BertEncoder
from tfrec_meta.tuning import StrategySpace, StudyRecord
from tfrec_meta.tuning.studies.shipped import shipped_studies
from tfrec_meta.tuning.surrogates.encoding import SpaceEncoding, point_key
from tfrec_meta.tuning.surrogates.learning_curves import is_hopeless
from tfrec_meta.tuning.surrogates.meta_surrogate import MetaSurrogate, PriorStudy
from tfrec_meta.tuning.surrogates.mixed_surrogate import MixedSurrogate, agreement, diverse_best
from tfrec_meta.tuning.surrogates.similarity import similarity_weights

AFTER = (2, 3, 5, 10)
INITIAL, TITLES = 4, 200


def search(
    study: PriorStudy,
    encoding: SpaceEncoding,
    memory: MetaSurrogate | None,
    weights: np.ndarray | None,
    trials: int,
    seed: int,
) -> list[int]:
    """Rows of a study's points, in the order in which they are tried."""
    generator = np.random.default_rng(seed)
    codes, scores = study.codes, study.scores
    default = point_key(encoding.default())
    order = [next((row for row, code in enumerate(codes) if point_key(code) == default), 0)]
    surrogate = MixedSurrogate(encoding, memory, weights)
    features = encoding.features(codes)
    while len(order) < min(trials, len(codes)):
        left = np.setdiff1d(np.arange(len(codes)), order)
        is_initial = len(order) <= INITIAL
        if is_initial and memory is not None and _agrees(memory, features[order], scores[order]):
            share = np.full(len(memory.studies), 1 / len(memory.studies))
            expected = memory.predict(features[left])
            chosen = diverse_best(expected, 1, share if weights is None else weights)[0]
        elif is_initial:
            chosen = int(generator.integers(len(left)))
        else:
            surrogate.fit(codes[order], scores[order], generator)
            chosen = int(np.argmax(surrogate.expected_improvement(codes[left])))
        order.append(int(left[chosen]))
    return order


def _agrees(memory: MetaSurrogate, features: np.ndarray, scores: np.ndarray) -> bool:
    """Whether a memory orders at least half of the pairs of trials rightly, as in the oracle."""
    return agreement(memory.predict(features).mean(axis=1), scores) >= 0


def text_embedding(name: str, encoder: BertEncoder) -> list[float] | None:
    """The mean vector of a sample of a data set's titles."""
    data: tm.Interactions = record_studies.DATA[name]()
    if data.items is None or "title" not in data.items.column_names:
        return None
    titles = [title for title in data.items["title"].to_pylist() if title]
    sample = np.random.default_rng(0).permutation(np.array(titles, object))[:TITLES]
    return [float(value) for value in encoder.encode(list(sample)).mean(axis=0)]


def epochs_saved(record: StudyRecord, order: Sequence[int], read: PriorStudy) -> dict[str, float]:
    """What stopping hopeless trials saves of the epochs, and what the best of them loses."""
    encoding = SpaceEncoding(StrategySpace(record_studies.FAMILIES).hyperparameters())
    by_point = {}
    for trial in record.trials:
        codes = encoding.codes(trial["values"])
        if codes is not None:
            by_point[point_key(codes)] = trial
    finished: list[Sequence[float]] = []
    best, whole, used, without = 0.0, 0, 0, 0.0
    for row in order:
        trial = by_point[point_key(read.codes[row])]
        curve = trial["curve"]
        if trial["value"] is None:
            continue
        without = max(without, trial["value"])
        whole += max(len(curve), 1)
        stops = next(
            (e for e in range(1, len(curve)) if is_hopeless(curve[:e], finished, best, "max")), None
        )
        used += stops or max(len(curve), 1)
        best = max(best, max(curve[:stops]) if stops else trial["value"])
        if stops is None and curve:
            finished.append(curve)
    return {"saved": 1 - used / max(whole, 1), "lost": without - best}


def main() -> None:
    """Searches all, prints the JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="three studies, one seed, no BERT")
    chosen = parser.parse_args()
    encoding = SpaceEncoding(StrategySpace(record_studies.FAMILIES).hyperparameters())
    records = shipped_studies()
    seeds = 1 if chosen.quick else chosen.seeds
    if chosen.quick:
        records = records[:3]
    read = {r.study_id: PriorStudy.read(r, encoding) for r in records}
    texts: dict[str, list[float] | None] = {}
    if not chosen.quick:
        encoder = BertEncoder()
        texts = {r.study_id: text_embedding(r.data["name"], encoder) for r in records}
    regrets: dict[str, list[np.ndarray]] = {}
    saved: list[dict[str, float]] = []
    for record in records:
        study = read[record.study_id]
        others = [
            PriorStudy(s.name, s.codes, s.scores, s.profile, texts.get(s.name))
            for name, s in read.items()
            if s is not None and name != record.study_id
        ]
        memory = MetaSurrogate.train(others, encoding)
        if study is None or memory is None:
            continue
        text = texts.get(record.study_id)
        variants: dict[str, tuple[MetaSurrogate | None, np.ndarray | None]] = {
            "none": (None, None),
            "memory": (memory, None),
            "profile": (memory, similarity_weights(memory, record.profile)),
            "text": (memory, similarity_weights(memory, None, text)),
            "both": (memory, similarity_weights(memory, record.profile, text)),
        }
        top, middle = study.scores.max(), np.median(study.scores)
        for name, (known, weights) in variants.items():
            found = []
            for seed in range(seeds):
                order = search(study, encoding, known, weights, max(AFTER), seed)
                reached = np.maximum.accumulate(study.scores[order])
                found.append((top - reached) / (top - middle))
            regrets.setdefault(name, []).append(np.mean(found, axis=0))
            if name == "memory":
                order = search(study, encoding, known, weights, 2 * max(AFTER), 0)
                saved.append(epochs_saved(record, order, study))
    result: dict[str, Any] = {}
    reference = np.array(regrets["memory"])
    generator = np.random.default_rng(0)
    for name, of_studies in regrets.items():
        table = np.array(of_studies)
        for after in AFTER:
            result[f"{name}_{after}"] = float(table[:, after - 1].mean())
        if name != "memory":
            gap = table[:, 4] - reference[:, 4]
            drawn = gap[generator.integers(len(gap), size=(2000, len(gap)))].mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            result[f"{name}_minus_memory_5"] = [float(gap.mean()), float(low), float(high)]
    result["curves_epochs_saved"] = float(np.mean([each["saved"] for each in saved]))
    result["curves_best_lost"] = float(np.mean([each["lost"] for each in saved]))
    result |= {"studies": len(reference), "seeds": seeds, "quick": chosen.quick}
    print(json.dumps(result | {"environment": environment()}))


if __name__ == "__main__":
    main()
