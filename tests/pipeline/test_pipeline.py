"""The complete pipeline on users of four tastes: cache, further spans, refusals and kills."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tfrec_meta as tm
from tests.pipeline.gate_toys import tastes_split, with_shuffled_items
from tfrec_meta.features.transform import spec_of
from tfrec_meta.pipeline import pipeline
from tfrec_meta.pipeline.components import infra_validator
from tfrec_meta.pipeline.components.answer_checks import Refused
from tfrec_meta.pipeline.config import PipelineConfig
from tfrec_meta.pipeline.runners import compilation, local_runner, logs, nodes, worker_client
from tfrec_meta.pipeline.runners.run_folder import LOG, read_records
from tfrec_meta.pipeline.serving_folder import digest, newest_version
from tfrec_meta.workflows import train as workflow

pytestmark = pytest.mark.pipeline

RESOLVERS = {"LastAccepted", "LastTransform", "LastBase", "LastBlessed"}
SEARCHED = {"encoder": "mean", "embedding_dim": 16, "training/batch_size": 512}


class Shop:
    """A folder with spans of three tables, and the pipeline over them."""

    def __init__(self, folder: Path):
        self.folder = folder
        data = tastes_split().data
        self.tables = {"interactions": data.events, "users": data.users, "items": data.items}

    def write_span(self, number: int, tables: dict[str, pa.Table]) -> None:
        folder = self.folder / f"span-{number}"
        folder.mkdir()
        for name, table in tables.items():
            pq.write_table(table, folder / f"{name}.parquet")

    def config(self, name: str = "shop", **settings) -> PipelineConfig:
        where = str(self.folder / "span-{SPAN}")
        record = {
            "name": name,
            "root": str(self.folder / "runs"),
            "serving": str(self.folder / "serving" / name),
            "data": {table: {"path": f"{where}/{table}.parquet"} for table in self.tables},
            "split": {"protocol": "leave-last-out", "partitions": 2, "history_length": 20},
            "tuner": {
                "trials": 2,
                "epochs": 4,
                "fixed": {f"two_tower/{key}": value for key, value in SEARCHED.items()},
            },
            "trainer": {
                "warm_start": True,
                "strategy": {"training": {"epochs": 30, "learning_rate": 0.02, "patience": 0}},
                "export": {"history_width": 20, "max_k": 20},
            },
            "evaluator": {"positive": 3, "slices": ["taste"], "resamples": 200},
            "infra_validator": {"requests": 3},
        }
        return PipelineConfig.from_dict(record | settings)


def states(run: local_runner.Run) -> dict[str, str]:
    return {record.node: record.state for record in read_records(run.folder)}


def artifact(run: local_runner.Run, node: str, key: str) -> dict:
    (record,) = (one for one in read_records(run.folder) if one.node == node)
    (found,) = record.outputs[key]
    return found


def second_span(tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """Returns the tables with more events of rare items, and new users of a new item."""
    events, items = tables["interactions"], tables["items"]
    end = max(events["time"].to_pylist())
    rare = [f"i{item}" for item in range(44, 48)]
    more = [(f"u{user}", rare[user % 4]) for user in range(100, 160)]
    more += [(f"n{user}", f"i{4 * step + user % 4}") for user in range(8) for step in range(6)]
    more += [(f"n{user}", "brand new") for user in range(8)]
    added = {
        "user_id": [user for user, _ in more],
        "item_id": [item for _, item in more],
        "time": list(range(end + 1, end + 1 + len(more))),
        "value": pa.array([4.0] * len(more), pa.float32()),
    }
    users = {
        "user_id": [f"n{user}" for user in range(8)],
        "taste": [f"t{user % 4}" for user in range(8)],
        "age": [30] * 8,
    }
    film = {"item_id": ["brand new"], "title": ["Item of tomorrow"]}
    return {
        "interactions": pa.concat_tables([events, pa.table(added, schema=events.schema)]),
        "users": pa.concat_tables([tables["users"], pa.table(users, tables["users"].schema)]),
        "items": pa.concat_tables([items, pa.table(film, schema=items.schema)]),
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("shop"))
    shop.write_span(1, shop.tables)
    return shop


@pytest.fixture(scope="module")
def first(shop):
    return local_runner.run(shop.config(), "first", progress=False)


@pytest.fixture(scope="module")
def again(shop, first):
    return local_runner.run(shop.config(), "again", progress=False)


@pytest.fixture(scope="module")
def later(shop, again):
    shop.write_span(2, second_span(shop.tables))
    return local_runner.run(shop.config(), "later", progress=False)


@pytest.fixture(scope="module")
def refused(shop, later):
    """A run on a third span whose ages are words; returns the error and the run's folder."""
    tables = second_span(shop.tables)
    users = tables["users"]
    words = pa.array(["young"] * len(users))
    wrong = users.set_column(users.column_names.index("age"), "age", words)
    shop.write_span(3, tables | {"users": wrong})
    config = shop.config()
    with pytest.raises(ValueError) as error:
        local_runner.run(config, "refused", progress=False)
    return str(error.value), config.folder / "runs" / "refused"


def test_the_first_run_pushes_a_blessed_model(first, shop):
    assert set(states(first).values()) == {"ran"}
    assert first.pushed == Path(shop.config().serving) / "1"
    assert (first.pushed / "saved_model.pb").is_file()
    assert first.verdict[0].startswith("Blessed")
    assert artifact(first, "RankingGate", "blessing")["properties"]["blessed"] == 1
    assert artifact(first, "Schemas", "items")["properties"]["inferred"] == 1


def test_the_pushed_model_scores_like_the_model_in_memory(first, shop):
    """The SavedModel encodes raw features like the FeatureSpec in memory."""
    import tensorflow as tf

    model = tm.load(Path(artifact(first, "Trainer", "model")["uri"]) / "model")
    past = tastes_split().train
    users = ["u0", "u50", "u77", "nobody"]
    # Keeps the loaded object: its tables would be freed with it.
    served = tf.saved_model.load(str(first.pushed))
    rank = served.signatures["rank"]
    items = list(model.spec.items.tokens.to_pylist())[:10]
    by_user = {user: [] for user in users}
    for user, item in zip(
        past.events["user_id"].to_pylist(), past.events["item_id"].to_pylist(), strict=True
    ):
        if user in by_user:
            by_user[user].append(item)
    history = [(by_user[user] + [""] * 20)[:20] for user in users]
    width = rank.structured_outputs["score"].shape[1]
    candidates = [(items + [""] * width)[:width]] * len(users)
    tastes, ages = ["t1", "t2", "", "t0"], [30.0, float("nan"), 44.0, -3.0]
    assert set(rank.structured_input_signature[1]) == {
        "user_id",
        "history",
        "item_id",
        "taste",
        "age",
    }
    scores = rank(
        user_id=tf.constant(users),
        history=tf.constant(history),
        item_id=tf.constant(candidates),
        taste=tf.constant(tastes),
        age=tf.constant(ages),
    )["score"].numpy()[:, : len(items)]
    raw = {"taste": tastes, "age": np.array(ages)}
    queries = model.spec.encode_queries(users, np.array(history, object), raw)
    rows = np.tile(model.spec.items.encode(items), (len(users), 1))
    np.testing.assert_allclose(scores, model.score(queries, rows), rtol=1e-5, atol=1e-5)


def test_the_same_input_comes_from_the_cache_and_pushes_nothing(again, shop):
    found = states(again)
    not_cached = {node for node, state in found.items() if state != "cached"}
    assert not_cached == RESOLVERS | {"RankingGate", "Pusher"}  # the blessed model is new
    assert again.pushed is None
    assert newest_version(shop.config().serving) == 1
    assert "last blessed model itself" in again.verdict[0]


def test_old_tokens_keep_their_rows_in_a_second_span(first, later):
    before = spec_of(artifact(first, "Transform", "transform_graph")["uri"])
    after = spec_of(artifact(later, "Transform", "transform_graph")["uri"])
    for key in ("user_id", "item_id", "item.title", "user.taste"):
        old = before.vocabularies[key].tokens.to_pylist()
        assert after.vocabularies[key].tokens.to_pylist()[: len(old)] == old, key
    assert "brand new" in after.items.tokens.to_pylist()[len(before.items.tokens) :]
    assert after.users.tokens.to_pylist()[len(before.users.tokens) :] == [
        f"n{user}" for user in range(8)
    ]


def test_a_second_span_has_new_ids_and_a_warm_start(first, later, shop):
    gate = artifact(later, "DataGate", "accepted")["properties"]
    assert gate["new_users"] > 0
    assert gate["new_items"] > 0
    base = artifact(later, "LastBase", "model")
    assert base["id"] == artifact(first, "Trainer", "model")["id"]
    log = (later.folder / LOG).read_text(encoding="utf-8")
    assert "Cold start" not in log
    assert artifact(later, "LastBlessed", "model")["id"] == base["id"]
    assert later.verdict[0].startswith("Blessed")
    assert later.pushed == Path(shop.config().serving) / "2"


def test_data_of_a_wrong_type_stops_the_run_and_pushes_nothing(refused, shop, later):
    error, folder = refused
    assert "users.age" in error
    assert newest_version(shop.config().serving) == 2
    records = {record.node: record for record in read_records(folder)}
    assert records["DataGate"].state == "failed"
    assert "Trainer" not in records
    assert "users.age" in (folder / "index.html").read_text(encoding="utf-8")


def test_a_run_writes_a_page_and_a_log(first):
    page = first.page.read_text(encoding="utf-8")
    assert first.page == first.folder / "index.html"
    for words in ("InteractionsGen", "Blessed", "RankingGate"):
        assert words in page
    assert (first.folder / LOG).stat().st_size > 1000


def test_a_first_run_warns_about_inferred_schemas(shop, capsys):
    config = shop.config("warned", data=interactions_only(shop))
    ir = compilation.compile_pipeline(pipeline.create_pipeline(config))
    run = nodes.begin_run(ir, "run", config.folder)
    with logs.log_to(run / LOG):
        for node in ("InteractionsGen", "InteractionsStatistics", "LastAccepted", "Schemas"):
            nodes.run_node_in(run, node)
    shown = capsys.readouterr().err
    assert "The schema of interactions was inferred" in shown
    assert "execution" not in shown.lower()  # messages of TFX are only in the log file


def interactions_only(shop) -> dict:
    """Returns the config of the first span's interactions, without users and items."""
    return {"interactions": {"path": str(shop.folder / "span-1" / "interactions.parquet")}}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Returns a function that configures a small pipeline: a CSV of numbers, no search, no TFMA."""
    folder = tmp_path_factory.mktemp("small")
    lines = ["viewer,film,when,stars"]
    for event in tastes_split().data.events.to_pylist():
        item = "ü🎬" if event["item_id"] == "i3" else event["item_id"][1:]
        lines.append(f"{event['user_id'][1:]},{item},{event['time']},{event['value']}")
    (folder / "log.csv").write_text("\n".join(lines), encoding="utf-8")
    columns = {"user_id": "viewer", "item_id": "film", "time": "when", "value": "stars"}

    def config(**settings):
        record = {
            "name": "small",
            "root": str(folder / "runs"),
            "serving": str(folder / "serving" / "small"),
            "data": {"interactions": {"path": str(folder / "log.csv"), "columns": columns}},
            "split": {"protocol": "leave-last-out", "partitions": 2, "history_length": 20},
            "tuner": {"enabled": False},
            "trainer": {
                "strategy": {"family": "ials", "model": {"embedding_dim": 8, "l2": 1.0}},
                "export": {"history_width": 20},
            },
            "evaluator": {"resamples": 200},
        }
        return PipelineConfig.from_dict(record | settings)

    return config


@pytest.fixture(scope="module")
def small_refused(small):
    """A first run in which InfraValidator refuses the candidate; returns it and its version."""
    refuse = Refused("the machine is too busy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infra_validator, "probe", lambda *_: (_ for _ in ()).throw(refuse))
        run = local_runner.run(small(), "refused", progress=False)
    return run, newest_version(small().serving)


@pytest.fixture(scope="module")
def small_first(small, small_refused):
    """The second run, which pushes."""
    return local_runner.run(small(), "first", progress=False)


def test_runs_on_interactions_only_and_probes_a_refused_candidate_again(
    small, small_refused, small_first
):
    refused, version = small_refused
    assert refused.verdict[0].startswith("Blessed")
    assert refused.pushed is None
    assert version == 0
    assert "too busy" in artifact(refused, "InfraValidator", "blessing")["properties"]["reason"]
    assert states(small_first)["Trainer"] == "cached"
    assert states(small_first)["InfraValidator"] == "ran"
    assert small_first.pushed == Path(small().serving) / "1"
    assert not run_has_baseline(small_first)  # no model was pushed before


def test_the_same_input_is_cached_and_a_lost_version_is_pushed_again(small, small_first):
    local_runner.run(small(), progress=False)
    run = local_runner.run(small(), progress=False)
    assert {node for node, state in states(run).items() if state != "cached"} <= RESOLVERS | {
        "LastStrategy"
    }
    shutil.rmtree(small().serving)
    run = local_runner.run(small(), progress=False)
    assert states(run)["Pusher"] == "ran"
    assert run.pushed == Path(small().serving) / "1"


def test_a_degraded_model_is_not_pushed_and_the_last_good_one_stays_served(
    small, small_first, monkeypatch
):
    assert small_first.pushed == Path(small().serving) / "1"
    served = digest(small_first.pushed)
    real = workflow.train
    monkeypatch.setattr(workflow, "train", lambda *a, **k: with_shuffled_items(real(*a, **k)))
    strategy = {"family": "ials", "model": {"embedding_dim": 8, "l2": 1.01}}  # not in the cache
    config = small(trainer={"strategy": strategy, "export": {"history_width": 20}})
    run = local_runner.run(config, "degraded", progress=False)
    assert artifact(run, "LastBlessed", "model") == artifact(small_first, "Trainer", "model")
    assert run.verdict[0].startswith("Not blessed: ")
    assert "below the last blessed model's" in run.verdict[0]
    assert artifact(run, "RankingGate", "blessing")["properties"]["blessed"] == 0
    assert artifact(run, "InfraValidator", "blessing")["properties"]["blessed"] == 1
    assert run.pushed is None
    reason = artifact(run, "Pusher", "pushed_model")["properties"]["reason"]
    assert "the ranking gate did not bless it; version 1 stays served" in reason
    assert [path.name for path in Path(config.serving).glob("[0-9]*")] == ["1"]
    assert digest(small_first.pushed) == served
    assert "The model was not blessed, so it was not pushed" in run.page.read_text(encoding="utf-8")


def test_a_model_of_another_split_is_not_the_baseline(small, small_first):
    split = {"protocol": "time", "partitions": 2, "history_length": 20}
    run = local_runner.run(small(split=split), "split-otherwise", progress=False)
    assert not run_has_baseline(run)
    left_out = artifact(run, "LastBlessed", "left_out")
    assert left_out["id"] == artifact(small_first, "Trainer", "model")["id"]
    assert "There is no last blessed model: the model that was pushed last" in run.verdict[0]


def test_splits_that_differ_too_much_stop_the_run_before_the_training(shop, tmp_path):
    """The last event of each user, the test split, has a new kind of device."""
    events = shop.tables["interactions"]
    newest = {}
    for row, user in enumerate(events["user_id"].to_pylist()):
        newest[user] = row  # `tastes_split` orders events by time
    device = np.full(len(events), "phone", object)
    device[list(newest.values())] = "glasses"
    pq.write_table(events.append_column("device", pa.array(device)), tmp_path / "events.parquet")
    data = {"interactions": {"path": str(tmp_path / "events.parquet")}}
    config = shop.config("drifted", data=data)
    with pytest.raises(ValueError, match="The splits differ too much") as error:
        local_runner.run(config, "run", progress=False)
    assert "interactions.device: drift, L-infinity of the shares against the split train, " in str(
        error.value
    )
    records = read_records(config.folder / "runs" / "run")
    assert [(one.node, one.state) for one in records][-1] == ("SplitGate", "failed")
    assert not {"Transform", "Tuner", "Trainer", "Pusher"} & {one.node for one in records}
    page = (config.folder / "runs" / "run" / "index.html").read_text(encoding="utf-8")
    assert "Failed at SplitGate" in page
    assert "interactions.device: drift" in page


def test_has_no_split_gate_without_a_limit(shop):
    config = shop.config("uncompared", data=interactions_only(shop) | {"max_split_drift": None})
    ir = compilation.compile_pipeline(pipeline.create_pipeline(config))
    assert "SplitGate" not in [node.pipeline_node.node_info.id for node in ir.nodes]


def run_has_baseline(run: local_runner.Run) -> bool:
    """Returns whether the run had a last blessed model."""
    (record,) = (one for one in read_records(run.folder) if one.node == "LastBlessed")
    return bool(record.outputs.get("model"))


def test_refuses_to_continue_a_run_with_other_settings(shop, first):
    with pytest.raises(ValueError, match="began with other settings"):
        local_runner.run(shop.config(seed=7), "first", progress=False)


def test_continues_after_kills_from_finished_trials_and_epochs(shop, first):
    """Kills the processes of nodes, which a warm worker forked."""
    config = shop.config(
        "killed",
        data={"interactions": {"path": str(shop.folder / "span-1" / "interactions.parquet")}},
        evaluator={"resamples": 200},
    )
    ir = compilation.compile_pipeline(pipeline.create_pipeline(config))
    run = nodes.begin_run(ir, "run", config.folder)
    names = [node.pipeline_node.node_info.id for node in ir.nodes]
    worker_client.start(run)
    try:
        for name in names[: names.index("Tuner")]:
            assert worker_client.run(run, name) == 0
        trials = "studies/*/trial_*/outcome.json"
        killed_when(run, "Tuner", lambda: list((config.folder / "work").glob(trials)))
        (trial, *_) = (config.folder / "work").glob(trials)
        first_trial = trial.read_text()
        assert worker_client.run(run, "Tuner") == 0

        epochs = "training/*/history.jsonl"

        def curve() -> list[str]:
            files = list((config.folder / "work").glob(epochs))
            return files[0].read_text().splitlines() if files else []

        killed_when(run, "Trainer", lambda: len(curve()) >= 3)
        known = curve()
        assert 3 <= len(known) < 30
        for name in names[names.index("Trainer") :]:
            assert worker_client.run(run, name) == 0
    finally:
        worker_client.stop(run)
    records = {record.node: record for record in read_records(run)}
    results = Path(records["Tuner"].outputs["tuner_results"][0]["uri"])
    trials = json.loads((results / "trials.json").read_text())
    assert len(trials) == 2
    assert trials[0]["seconds"] == json.loads(first_trial)["seconds"]  # not run again
    history = Path(records["Trainer"].outputs["model_run"][0]["uri"]) / "history.jsonl"
    curve_lines = history.read_text().splitlines()
    assert len(curve_lines) == 30
    assert curve_lines[: len(known) - 1] == known[:-1]  # the last may have no checkpoint
    assert newest_version(config.serving) == 1


def killed_when(run: Path, node: str, ready) -> None:
    """Runs the node in the worker, and kills its process when `ready` returns a true value."""
    status: list[int] = []
    lines: list[str] = []
    thread = threading.Thread(
        target=lambda: status.append(worker_client.run(run, node, lines.append))
    )
    before = set(children())
    thread.start()
    deadline = time.monotonic() + 120
    while not ready():
        assert thread.is_alive(), "\n".join(lines[-20:])
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for pid in set(children()) - before:
        os.kill(pid, signal.SIGKILL)
    thread.join(timeout=30)
    assert status
    assert status[0] != 0


def children() -> list[int]:
    """Returns the processes of nodes: the children of the worker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parent = Path("/proc", fields[1], "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"tfrec_meta.pipeline.runners.worker" in parent:
                found.append(int(entry.name))
    return found
