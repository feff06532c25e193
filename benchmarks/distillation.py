"""The quality of a student of a BERT teacher on items without interactions.

    python -m benchmarks.distillation
    python -m benchmarks.distillation --ensemble

A fifth of the items is cold: all their events are test rows, and training uses only their title,
genres and decade. The events of another tenth are validation rows. For each seed, dropouts and the
settings of content kNN and genre popularity are chosen on them; all other settings are the best
ones on the validation rows of one split (seed 1). For each test user the cold items outside the
history are ranked, and then all items. Results are means over seeds. Users of all seeds are
compared pairwise by bootstrap.

- `teacher`: a content tower over MiniLM's vectors of the titles, with genres and year, where MiniLM
  was tuned on the training events as a text two-tower (`TEXT_TUNING`); see
  `tfrec_meta.text_teacher`. `frozen_teacher`: the same over the original MiniLM.
- `student`: hashed words and n-grams of the titles instead of the vectors, distilled from the
  teacher's scores of the catalogue, including the cold items. `student_unseen`: distilled without
  the cold items, whose titles it first sees at test time.
- `no_teacher`: the same student, trained on events only, with its own dropout.
- `content_knn`: the mean cosine of raw MiniLM vectors to the latest items of the history;
  `genre_popularity`: the popularity of an item's genres, overall or in the user's history. The
  number of items and the variant are chosen on validation rows.

Then the time to encode items is measured on all cores in batches of 256: the student's `embed_item`
in the exported SavedModel, from raw strings, and MiniLM, from raw strings; medians of interleaved
runs.

`--ensemble`: an ensemble of EASE, iALS and a two-tower with an attention encoder on the split by
item (0.75 of each item's events), with weights chosen on a fifth of the training rows; and a
two-tower that is distilled from it. The figures are `ensemble`, `tower`, and `best_teacher`, the
best member alone.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse
import tensorflow as tf

import tfrec_meta as tm
from benchmarks import arguments
from tfrec_meta.content.text_vectors import TEXT_VECTOR, with_text_vectors
from tfrec_meta.distillation import BertEncoder, fine_tuned
from tfrec_meta.evaluation import Evaluation, full_catalogue
from tfrec_meta.evaluation.intervals import paired_difference
from tfrec_meta.export.saved_model import export_model
from tfrec_meta.features import FeatureSpec
from tfrec_meta.features.graph import raw_width
from tfrec_meta.features.held_out import HeldOut, held_out
from tfrec_meta.models import Recommender
from tfrec_meta.workflows.train import TEXT_TEACHER, TEXT_TUNING, text_teacher

FEATURES = FeatureSpec(
    item=(tm.HashedText("title"), tm.Category("genres", width=6), tm.Category("decade")),
    history_length=300,
)
STUDENT = tm.Strategy(
    "content_tower",
    tm.ContentTowerConfig(hidden=(128,), dropout=0.0, teacher_weight=1.0, teacher_temperature=0.5),
    TEXT_TEACHER.training,
)
TEACHER_DROPOUTS = (0.5, 0.6)
OWN_DROPOUTS = (0.3, 0.5)  # of the student without a teacher
NEIGHBOURS = (10, 50, 300)  # latest items of the history
BATCH, ROUNDS = 256, 7
Scores = np.ndarray


@dataclasses.dataclass
class Asked:
    """Held-out events of cold items: `judge` ranks these alone, `judge_all` the whole catalogue."""

    held: HeldOut
    cold: np.ndarray

    @classmethod
    def of(cls, spec: FeatureSpec, past: tm.Interactions, events: tm.Interactions) -> Asked:
        cold = np.zeros(spec.catalogue_size, bool)
        cold[spec.items.encode(np.unique(events.item_ids)) - 1] = True
        return cls(held_out(spec, past, events), cold)

    def judge(self, scores: Scores) -> Evaluation:
        relevant, seen = (
            scipy.sparse.csc_matrix(m)[:, self.cold].tocsr()
            for m in (self.held.relevant, self.held.seen)
        )
        part = scores[:, self.cold]
        return full_catalogue(lambda rows: part[rows], relevant, seen, metrics=("ndcg",))

    def judge_all(self, scores: Scores) -> Evaluation:
        return full_catalogue(
            lambda rows: scores[rows], self.held.relevant, self.held.seen, metrics=("ndcg",)
        )


def with_decade(data: tm.Interactions) -> tm.Interactions:
    """The items' year as a category of ten years; what lacks title, genres or year has none."""
    items = data.items
    years = items["year"].to_pylist()
    decades = [None if year is None else f"{int(year) // 10}0s" for year in years]
    return dataclasses.replace(data, items=items.append_column("decade", pa.array(decades)))


def with_config(strategy: tm.Strategy, seed: int, quick: bool, **changes: Any) -> tm.Strategy:
    recipe = dataclasses.replace(strategy.training, seed=seed, epochs=1 if quick else 15)
    config = dataclasses.replace(strategy.model, **changes)
    return dataclasses.replace(strategy, model=config, training=recipe)


def content_knn(vectors: np.ndarray, histories: np.ndarray, latest: int) -> Scores:
    """float32 [u, catalogue], from vectors of length 1 [catalogue + 1, d], row 0 zeros."""
    profile = vectors[histories[:, -latest:]].sum(axis=1)
    return profile @ vectors[1:].T


def genre_popularity(spec: FeatureSpec, train: tm.Interactions, held: HeldOut) -> dict[str, Scores]:
    """Scores by genres, the sum over an item's: the mean events of a genre's items, everyone's or
    the user's own."""
    encoded = spec.encode_items(train.items)["genres"]
    genres = np.zeros((len(encoded), encoded.max() + 1), np.float32)
    np.put_along_axis(genres, encoded, 1.0, axis=1)
    genres[:, 0] = 0
    counts = np.bincount(spec.items.encode(train.events["item_id"]), minlength=len(genres))
    met = counts > 0
    items = np.maximum(genres[met].sum(axis=0), 1)
    everyone = (counts.astype(np.float32) @ genres) / items
    own = np.asarray(held.seen @ genres[1:]) / items
    return {
        "everyone's": np.tile(genres[1:] @ everyone, (len(held.users), 1)),
        "the user's": own @ genres[1:].T,
    }


def rows_latest_last(queries: Mapping[str, np.ndarray]) -> np.ndarray:
    """int32 [u, H], the history with its pads at the left."""
    rows = queries["history"]
    order = np.argsort(rows > 0, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def best(candidates: Mapping[str, Callable[[], Scores]], asked: Asked, what: str) -> str:
    """The name of the candidate with the best NDCG@10 of cold validation items."""
    found = {}
    for name, scores in candidates.items():
        found[name] = asked.judge(scores())["ndcg@10"].value
        print(
            f"{what} {name}: NDCG@10 {found[name]:.4f} on validation", file=sys.stderr, flush=True
        )
    return max(found, key=lambda name: found[name])


def without_items(data: tm.Interactions, left_out: Sequence[str]) -> tm.Interactions:
    """The same events; the items table lacks those that are named."""
    kept = ~np.isin(np.asarray(data.items["item_id"].to_pylist(), object), list(left_out))
    return dataclasses.replace(data, items=data.items.filter(pa.array(kept)))


def unseen_scores(model: Recommender, spec: FeatureSpec, items: pa.Table, held: HeldOut) -> Scores:
    """Scores of the catalogue of `spec` by a model that may lack some of its items."""
    tokens = spec.items.decode(np.arange(1, len(spec.items)))
    rows = model.spec.items.encode(pa.array(tokens, pa.string()))
    table = items.take(pa.array(_places(items["item_id"].to_pylist(), tokens)))
    encoded = {
        one.name: tf.constant(model.spec.encode_feature(one, table[one.name], "item"))
        for one in model.spec.item
    }
    embedded = model.embed_item({"item_id": tf.constant(rows), **encoded}).numpy()
    known = model.spec.items.encode(spec.items.decode(held.queries["history"].ravel()))
    history = known.reshape(held.queries["history"].shape)
    queries = {"user_id": held.queries["user_id"], "history": history}
    scores: Scores = model.embed_query(queries).numpy() @ embedded.T
    return scores


def _places(ids: list[str], wanted: Sequence[str]) -> np.ndarray:
    place = {item: row for row, item in enumerate(ids)}
    return np.array([place[item] for item in wanted])


def one_seed(data: tm.Interactions, seed: int, quick: bool) -> tuple[dict[str, Any], Recommender]:
    """Evaluations by method, of cold items and of all; and the student."""
    split = tm.split_cold_items(data, test=0.2, validation=0.1, seed=seed)
    spec = FEATURES.fit(split.train)
    chosen_by = Asked.of(spec, split.train, split.validation)
    asked = Asked.of(spec, split.past, split.test)
    encoder = BertEncoder()

    def said(model: Recommender, by: Asked) -> Scores:
        return model.score(by.held.queries)

    steps = 1 if quick else TEXT_TUNING.max_steps
    recipe = dataclasses.replace(TEXT_TUNING, seed=seed, max_steps=steps)
    tuned = fine_tuned(encoder, split.train, spec, ["title"], recipe, progress=False)

    def teacher_over(read_by: BertEncoder, what: str) -> tuple[str, Recommender]:
        teachers = {
            f"{dropout:g}": text_teacher(
                split.train,
                spec,
                encoder=read_by,
                strategy=with_config(TEXT_TEACHER, seed, quick, dropout=dropout),
                progress=False,
            )
            for dropout in TEACHER_DROPOUTS
        }
        scores = {n: lambda m=m: said(m, chosen_by) for n, m in teachers.items()}
        name = best(scores, chosen_by, what)
        return name, teachers[name]

    name, teacher = teacher_over(tuned, "teacher")
    _, frozen = teacher_over(encoder, "frozen teacher")
    untaught = {
        f"{dropout:g}": tm.train(
            split.train,
            with_config(STUDENT, seed, quick, dropout=dropout),
            features=spec,
            progress=False,
        )
        for dropout in OWN_DROPOUTS
    }
    own = best(
        {n: lambda m=m: said(m, chosen_by) for n, m in untaught.items()}, chosen_by, "no teacher"
    )
    how = with_config(STUDENT, seed, quick)
    student = tm.train(split.train, how, features=spec, teacher=teacher, progress=False)
    print(f"student: {chosen_by.judge(said(student, chosen_by))['ndcg@10']}", file=sys.stderr)

    known = without_items(split.train, np.unique(split.test.item_ids))
    fewer = FEATURES.fit(known)
    of_fewer = text_teacher(
        known,
        fewer,
        encoder=tuned,
        strategy=with_config(TEXT_TEACHER, seed, quick, dropout=float(name)),
        progress=False,
    )
    unseen = tm.train(known, how, features=fewer, teacher=of_fewer, progress=False)

    table = with_text_vectors(data, encoder, ["title"]).items
    vectors = np.zeros((len(spec.items), encoder.dimension), np.float32)
    vectors[spec.items.encode(table["item_id"])] = np.stack(table[TEXT_VECTOR].to_pylist())
    knn = best(
        {
            str(n): lambda n=n: content_knn(vectors, rows_latest_last(chosen_by.held.queries), n)
            for n in NEIGHBOURS
        },
        chosen_by,
        "content kNN",
    )
    genres = genre_popularity(spec, split.train, chosen_by.held)
    whose = best({n: lambda s=s: s for n, s in genres.items()}, chosen_by, "genre popularity")
    scores = {
        "teacher": said(teacher, asked),
        "frozen_teacher": said(frozen, asked),
        "student": said(student, asked),
        "student_unseen": unseen_scores(unseen, spec, data.items, asked.held),
        "no_teacher": said(untaught[own], asked),
        "content_knn": content_knn(vectors, rows_latest_last(asked.held.queries), int(knn)),
        "genre_popularity": genre_popularity(spec, split.train, asked.held)[whose],
    }
    found = {name: (asked.judge(s), asked.judge_all(s)) for name, s in scores.items()}
    for name, (cold, whole) in found.items():
        print(f"seed {seed}, {name}: {cold['ndcg@10']}, all {whole['ndcg@10']}", file=sys.stderr)
    return found, student


def of_ensemble(data: tm.Interactions, seed: int, quick: bool) -> dict[str, float]:
    """NDCG@10 on the stratified split of the ensemble, its members, and one tower taught by it."""
    split = tm.split_by_item(data, train=0.75, seed=seed)
    epochs = {"epochs": 1} if quick else {}
    members = (
        tm.Member("ease"),
        tm.Member("ials"),
        tm.Member("two_tower", {"encoder": "attention"}, {"rows": "windows", **epochs}),
    )
    recipe = tm.TrainingConfig(seed=seed)
    ensemble = tm.Strategy(
        "ensemble",
        tm.EnsembleConfig(members=members, weights="validation"),
        recipe,
        history_length=1000,
    )
    inner = tm.split_by_item(split.train, train=0.8, seed=seed + 1)
    weights = tm.train(inner.train, ensemble, validation=inner.test, progress=False).weights.numpy()
    print(f"weights of EASE, iALS and attention: {weights}", file=sys.stderr, flush=True)
    config = dataclasses.replace(ensemble.model, weights=tuple(map(float, weights)))
    teacher = tm.train(split.train, dataclasses.replace(ensemble, model=config), progress=False)
    shape = tm.TwoTowerConfig(embedding_dim=128, negatives="full", item_initializer="spectral")
    student = tm.Strategy("two_tower", shape, dataclasses.replace(recipe, epochs=1 if quick else 6))
    tower = tm.train(split.train, student, teacher=teacher, features=teacher.spec, progress=False)

    def ndcg(model: Recommender) -> float:
        (found,) = tm.evaluate(model, split, baselines=(), resamples=0).values()
        return float(found["ndcg@10"].value)

    alone = {f"{member.family}_ndcg_at_10": ndcg(member) for member in teacher.members}
    return {
        "ensemble_ndcg_at_10": ndcg(teacher),
        "tower_ndcg_at_10": ndcg(tower),
        "best_teacher_ndcg_at_10": max(alone.values()),
        **alone,
    }


def encode_times(student: Recommender, items: pa.Table) -> tuple[float, float]:
    """Microseconds an item of the exported student and of MiniLM, medians of interleaved runs."""
    encoder = BertEncoder()
    rows = [row for row in items.to_pylist() if row["title"]]
    batches = [rows[i : i + BATCH] for i in range(0, len(rows) - BATCH + 1, BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        export_model(student, Path(folder) / "student")
        (version,) = (Path(folder) / "student").iterdir()
        embed = tf.saved_model.load(str(version)).signatures["embed_item"]
        asked = [_raw(student.spec, batch) for batch in batches]

        def by_student() -> None:
            for raw in asked:
                embed(**raw)

        def by_bert() -> None:
            for batch in batches:
                encoder.encode([row["title"] for row in batch], batch_size=BATCH)

        took: dict[str, list[float]] = {"student": [], "bert": []}
        by_student(), by_bert()  # which traces them
        for _ in range(ROUNDS):
            for name, run in (("student", by_student), ("bert", by_bert)):
                began = time.perf_counter()
                run()
                took[name].append((time.perf_counter() - began) * 1e6 / (BATCH * len(batches)))
    return float(np.median(took["student"])), float(np.median(took["bert"]))


def _raw(spec: FeatureSpec, batch: Sequence[Mapping[str, Any]]) -> dict[str, tf.Tensor]:
    """The inputs of `embed_item`: all are strings."""
    raw = {"item_id": tf.constant([row["item_id"] for row in batch])}
    for feature in spec.item:
        values, width = [row[feature.name] for row in batch], raw_width(feature)
        if width is None:
            raw[feature.name] = tf.constant([value or "" for value in values])
        else:
            padded = [[*(value or ())][:width] for value in values]
            raw[feature.name] = tf.constant([[*v, *[""] * (width - len(v))] for v in padded])
    return raw


def size(model: Recommender) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def main() -> None:
    """Runs all seeds, prints the JSON object."""
    switches = {"ensemble": "the ensemble and its tower alone"}
    chosen = arguments.parse(__doc__, switches=switches)
    if chosen.ensemble:
        arguments.finish(
            of_ensemble(arguments.load(chosen.data), chosen.seed, chosen.quick), chosen
        )
        return
    data = with_decade(arguments.load(chosen.data))
    seeds = [chosen.seed] if chosen.quick else [chosen.seed + i for i in range(3)]
    runs = []
    for seed in seeds:
        found, student = one_seed(data, seed, chosen.quick)
        runs.append(found)
    result: dict[str, Any] = {}
    for name in runs[0]:
        result[f"{name}_ndcg_at_10"] = float(np.mean([r[name][0]["ndcg@10"].value for r in runs]))
        result[f"{name}_all_items"] = float(np.mean([r[name][1]["ndcg@10"].value for r in runs]))
    for one, other in (
        ("student", "no_teacher"),
        ("student_unseen", "no_teacher"),
        ("teacher", "frozen_teacher"),
        ("teacher", "content_knn"),
        ("teacher", "genre_popularity"),
    ):
        a, b = (
            np.concatenate([run[name][0].per_query["ndcg@10"] for run in runs])
            for name in (one, other)
        )
        compared = paired_difference(a, b, "ndcg@10")
        result[f"{one}_over_{other}"] = compared.difference
        result[f"{one}_over_{other}_p"] = compared.p
    result["kept"] = result["student_ndcg_at_10"] / result["teacher_ndcg_at_10"]
    own, bert = encode_times(student, data.items)
    teacher_size = BertEncoder().model.count_params()
    result |= {
        "student_microseconds": own,
        "teacher_microseconds": bert,
        "encode_speedup": bert / own,
        "student_parameters": size(student),
        "teacher_parameters": teacher_size,
        "parameter_ratio": size(student) / teacher_size,
        "seeds": seeds,
    }
    arguments.finish(result, chosen)


if __name__ == "__main__":
    main()
