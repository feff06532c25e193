"""One config and one dirty log: the library and the pipeline have the same rows and results."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tfrec_meta as tm
from tests.pipeline import conftest
from tests.pipeline.reading import generate
from tfrec_meta.data.cleaning import FEW_OF_ITEM, FEW_OF_USER
from tfrec_meta.features.transform import spec_of
from tfrec_meta.pipeline import events as rows_in_memory
from tfrec_meta.pipeline.components.example_gen import DROPPED
from tfrec_meta.pipeline.components.histories import PERSONAL
from tfrec_meta.pipeline.components.trainer import chosen_strategy
from tfrec_meta.pipeline.config import EvaluatorConfig, PipelineConfig
from tfrec_meta.pipeline.gates.blessing_rules import Reference, evaluate_candidate
from tfrec_meta.pipeline.gates.verdict import SliceName
from tfrec_meta.workflows.configs.config_files import read_config
from tfrec_meta.workflows.run_settings import complete_settings, split_of

COLUMNS = ("who", "what", "time", "value", "action")
CONFIG = """\
data:
  source: log
  columns: {user_id: who, item_id: what, time: time, value: value, event_type: action,
            device: device, items.name: title}
  users: users.csv
  items: items.parquet
  bad_rows: drop
  max_bad_share: 0.05
  clean: {value_range: [0.5, 9.0], min_user_events: 16, min_item_events: 30}
strategy: {family: ease, model: {l2: 20.0}, history_length: 20}
pipeline: {split: {partitions: 3}}
"""
ALL_ALIKE = "split: {protocol: time}\n"
SHOP = """\
split: {protocol: leave-last-out}
feedback: {event_weights: {view: 1, purchase: 4}, weight: value, target: [purchase]}
"""
USERS, ITEMS, BEGIN = 40, 24, 1_700_000_000
BAD = [
    ",3,1700000000,1,view",  # no user
    "3,   ,1700000000,1,view",  # no item
    '3,"1\n2",1700000000,1,view',  # a line break in an id
    "3,4,soon,1,view",
    "3,4,2025-02-30,1,view",
    "3,4,1700000000123,1,view",  # milliseconds among seconds
    "3,4,1700000000,much,view",
    "3,4,1700000000,,view",
    "3,4,1700000000,nan,view",
    "3,4,1700000000",  # three cells
    '3,"4,1700000000,1,view',  # a quotation mark that is not closed
]
IMPLAUSIBLE = [
    "5,6,,1,view",  # no time
    "5,6,-5,1,view",
    "5,6,2150-01-01,1,view",
    "5,6,1700000000,9.5,view",
    "5,6,1700000000,0.25,purchase",
]


def written_times(second, row):
    """Returns a time in one of the valid spellings."""
    moment = datetime.fromtimestamp(second, UTC)
    return (
        str(second),
        f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        f"{moment:%Y-%m-%d %H:%M:%S}",
        f" {moment:%Y-%m-%dT%H:%M:%S}.125+00:00",
        f"{second}.5",
    )[row % 5]


def dirty_log(folder):
    """Writes two files of events, users and items; users of three tastes, which they follow.

    Only the second file has the column `device`.
    """
    rng = np.random.default_rng(3)
    lines = []
    for row in range(900):
        user = int(rng.integers(USERS))
        item = int(rng.integers(ITEMS // 3)) * 3 + user % 3
        time = written_times(BEGIN + row * 50 + int(rng.integers(3)) * 50, row)
        action = ("view", "view", "purchase")[int(rng.integers(3))]
        ids = (str(user), f" {user}", f"{user}.0")[row % 3], f"{item}\x07" if item > 20 else item
        lines.append(f"{ids[0]},{ids[1]},{time},{1 + row % 4},{action}")
    lines[400:400] = lines[100:140]  # copies
    lines[500:500] = [line.replace(",purchase", ",view") for line in lines[300:320]]
    for place, line in enumerate(BAD + IMPLAUSIBLE):
        lines.insert(37 * place, line)
    half = len(lines) // 2
    (folder / "log").mkdir()
    header = ",".join(COLUMNS)
    second = [f"{line},{'tv' if row % 3 else ''}" for row, line in enumerate(lines[half:])]
    for name, part in (("a", [header, *lines[:half]]), ("b", [f"{header},device", *second])):
        (folder / "log" / f"{name}.csv").write_text("\n".join(part) + "\n", encoding="utf-8")
    users = [
        f"{user}.0,{20 + user},{'ab'[user % 2]},u{user}@shop.example" for user in range(0, USERS, 2)
    ]
    (folder / "users.csv").write_text("\n".join(["who,age,group,mail", *users]) + "\n")
    items = range(ITEMS - 6)
    films = {
        "what": [f"{item} " for item in items],
        "title": [f"film {item}\x1b" for item in items],
        "code": [f"{item:05d}" for item in items],
        "new": [None if item == 4 else item % 3 == 0 for item in items],
    }
    pq.write_table(pa.table(films), folder / "items.parquet")


def in_pipeline(folder, config):
    """Returns the outputs of Histories, and the numbers of dropped rows by reason."""
    examples = {
        name: generate(folder / name, name, table, data=config.data)
        for name, table in config.data.tables.items()
    }
    made = conftest.run_histories(
        examples,
        folder,
        config.split,
        seed=config.seed,
        rules=config.data.clean,
        feedback=config.feedback,
        bad_rows=config.data.bad_rows,
    )
    counts = Counter()
    for name, artifact in {**examples, "": made["examples"]}.items():
        dropped = json.loads(artifact.get_string_custom_property(DROPPED))
        counts.update({f"{name}: {why}" if name else why: n for why, n in dropped.items()})
    return made, counts


def with_words(table):
    """Returns a table with "true" and "false" for truth values, as the pipeline writes them."""
    for place, field in enumerate(table.schema):
        if pa.types.is_boolean(field.type):
            table = table.set_column(place, field.name, table[place].cast(pa.string()))
    return table


def ordered(events, columns):
    order = [(name, "ascending") for name in ("user_id", "time", "item_id", "value", "event_type")]
    return events.select(columns).sort_by(order)


@pytest.mark.pipeline
@pytest.mark.parametrize("further", [ALL_ALIKE, SHOP], ids=["all events alike", "feedback"])
def test_one_config_gives_the_same_rows_counts_splits_features_and_metrics(
    tmp_path, further, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    dirty_log(tmp_path)
    (tmp_path / "shop.yaml").write_text(CONFIG + further)
    settings = complete_settings(read_config("shop.yaml"))
    library = split_of(settings)
    config = PipelineConfig.read("shop.yaml")
    made, counts = in_pipeline(tmp_path, config)

    data = library.data
    assert counts == {f"interactions: {why}": n for why, n in data.dropped.items()}
    assert counts["interactions: unreadable time"] == 3
    assert counts["interactions: duplicate"] >= 40
    assert counts[f"interactions: {FEW_OF_USER}"] > 0
    assert counts[f"interactions: {FEW_OF_ITEM}"] > 0
    personal = json.loads(made["examples"].get_string_custom_property(PERSONAL))
    assert [words for _, words in personal] == list(map(str, tm.data.personal_columns(data)))
    assert personal == [["users", "users.mail (e-mail addresses, by its values)"]]
    catalogue = made["catalogue"].uri
    parts = {
        name: rows_in_memory.interactions(
            rows_in_memory.read_split(made["examples"].uri, name), catalogue
        )
        for name in ("train", "validation", "test")
    }
    seen = pq.read_table(Path(made["seen"].uri) / "events.parquet")
    parts["past"] = rows_in_memory.interactions(seen, catalogue)
    for name, found in parts.items():
        wanted = getattr(library, name)
        columns = wanted.events.column_names
        assert ordered(found.events, columns).equals(ordered(wanted.events, columns)), name
        assert found.feedback == wanted.feedback
        for key, kind in (("user_id", "users"), ("item_id", "items")):
            table = with_words(getattr(wanted, kind))
            assert getattr(found, kind).select(table.column_names).equals(table.sort_by(key))

    assert library.data.items.column_names == ["item_id", "name", "code", "new"]
    strategy = tm.Strategy.from_dict(settings["strategy"])
    assert chosen_strategy(config.trainer.strategy, config.seed) == strategy
    graph = conftest.fitted_graph(made, tmp_path)
    model = tm.train(parts["train"], strategy, features=spec_of(graph.uri), progress=False)
    reference = tm.train(library.train, strategy, progress=False)
    assert model.spec.declaration() == reference.spec.declaration()
    for name in ("item.new", "user.group"):
        tokens, wanted = (m.spec.vocabularies[name].tokens.to_pylist() for m in (model, reference))
        assert sorted(tokens) == sorted(wanted), name
    assert "true" in model.spec.vocabularies["item.new"].tokens.to_pylist()
    expected = tm.evaluate(
        reference, library, k=5, baselines=["popularity"], tune_baselines=False, resamples=0
    )
    verdict = evaluate_candidate(
        model, None, parts["past"], parts["test"], EvaluatorConfig(k=5, resamples=100)
    )
    for metric in ("ndcg@5", "recall@5"):
        (check,) = (
            check
            for check in verdict.checks
            if (check.slice, check.metric) == (SliceName.ALL_USERS, metric)
            and check.against == Reference.POPULARITY
        )
        assert check.model == pytest.approx(expected["ease"][metric].value, abs=1e-6)
        assert check.other == pytest.approx(expected["popularity"][metric].value, abs=1e-6)
        assert check.model > check.other
