"""The whole pipeline on users of four tastes: once, again, a second span, bad data, kills."""

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
from tfrec_meta.pipeline.run_folder import LOG, read_records
from tfrec_meta.pipeline.runners import compilation, local_runner, logs, nodes, worker_client
from tfrec_meta.pipeline.serving_folder import digest, newest_version
from tfrec_meta.workflows import train as workflow

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
    """The events so far, more of the rarest items, and new users of a new item."""
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
    """A third span whose ratings are words; the error, and the run's folder."""
    tables = second_span(shop.tables)
    events = tables["interactions"]
    words = pa.array(["good"] * len(events))
    wrong = events.set_column(events.column_names.index("value"), "value", words)
    shop.write_span(3, tables | {"interactions": wrong})
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


def test_the_pushed_model_answers_as_the_model_in_memory(first, shop):
    """Raw features to the SavedModel, and through the FeatureSpec in memory: one encoding."""
    import tensorflow as tf

    model = tm.load(Path(artifact(first, "Trainer", "model")["uri"]) / "model")
    past = tastes_split().train
    users = ["u0", "u50", "u77", "nobody"]
    # The loaded object kept: with it, its tables would go.
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
    asked = [(items + [""] * width)[:width]] * len(users)
    tastes, ages = ["t1", "t2", "", "t0"], [30.0, float("nan"), 44.0, -3.0]
    assert set(rank.structured_input_signature[1]) == {
        "user_id",
        "history",
        "item_id",
        "taste",
        "age",
    }
    got = rank(
        user_id=tf.constant(users),
        history=tf.constant(history),
        item_id=tf.constant(asked),
        taste=tf.constant(tastes),
        age=tf.constant(ages),
    )["score"].numpy()[:, : len(items)]
    raw = {"taste": tastes, "age": np.array(ages)}
    queries = model.spec.encode_queries(users, np.array(history, object), raw)
    rows = np.tile(model.spec.items.encode(items), (len(users), 1))
    np.testing.assert_allclose(got, model.score(queries, rows), rtol=1e-5, atol=1e-5)


def test_the_same_input_again_comes_from_the_cache_and_pushes_nothing(again, shop):
    found = states(again)
    touched = {node for node, state in found.items() if state != "cached"}
    assert touched == RESOLVERS | {"RankingGate", "Pusher"}  # they look at what was blessed
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


def test_a_second_span_is_told_apart_by_new_ids_and_starts_warm(first, later, shop):
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


def test_data_of_a_wrong_type_stop_the_run_and_push_nothing(refused, shop, later):
    error, folder = refused
    assert "interactions.value" in error
    assert newest_version(shop.config().serving) == 2
    records = {record.node: record for record in read_records(folder)}
    assert records["DataGate"].state == "failed"
    assert "Trainer" not in records
    assert "interactions.value" in (folder / "index.html").read_text(encoding="utf-8")


def test_a_run_leaves_a_page_and_a_log(first):
    page = first.page.read_text(encoding="utf-8")
    assert first.page == first.folder / "index.html"
    for words in ("InteractionsGen", "Blessed", "RankingGate"):
        assert words in page
    assert (first.folder / LOG).stat().st_size > 1000


def test_a_first_run_warns_that_schemas_are_inferred(shop, capsys):
    config = shop.config("warned", data=alone(shop))
    ir = compilation.compile_pipeline(pipeline.create_pipeline(config))
    run = nodes.begin_run(ir, "run", config.folder)
    with logs.log_to(run / LOG):
        for node in ("InteractionsGen", "InteractionsStatistics", "LastAccepted", "Schemas"):
            nodes.run_node_in(run, node)
    shown = capsys.readouterr().err
    assert "The schema of interactions was inferred" in shown
    assert "execution" not in shown.lower()  # what TFX says is in the log alone


def alone(shop) -> dict:
    """The config of the first span's interactions without users and items."""
    return {"interactions": {"path": str(shop.folder / "span-1" / "interactions.parquet")}}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A function that gives the config of a small pipeline: interactions alone, no search."""
    folder = tmp_path_factory.mktemp("small")
    pq.write_table(tastes_split().data.events, folder / "events.parquet")

    def config(**settings):
        record = {
            "name": "small",
            "root": str(folder / "runs"),
            "serving": str(folder / "serving" / "small"),
            "data": {"interactions": {"path": str(folder / "events.parquet")}},
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
def small_first(small):
    return local_runner.run(small(), "first", progress=False)


def test_a_degraded_model_is_neither_blessed_nor_pushed_and_the_last_good_one_stays(
    small, small_first, monkeypatch
):
    assert small_first.pushed == Path(small().serving) / "1"
    served = digest(small_first.pushed)
    honest = workflow.train
    monkeypatch.setattr(workflow, "train", lambda *a, **k: with_shuffled_items(honest(*a, **k)))
    strategy = {"family": "ials", "model": {"embedding_dim": 8, "l2": 1.01}}  # to be trained anew
    config = small(trainer={"strategy": strategy, "export": {"history_width": 20}})
    run = local_runner.run(config, "degraded", progress=False)
    assert artifact(run, "LastBlessed", "model") == artifact(small_first, "Trainer", "model")
    assert run.verdict[0].startswith("Not blessed: ")
    assert "below the last blessed model's" in run.verdict[0]
    assert artifact(run, "RankingGate", "blessing")["properties"]["blessed"] == 0
    assert artifact(run, "InfraValidator", "blessing")["properties"]["blessed"] == 1
    assert run.pushed is None
    said = artifact(run, "Pusher", "pushed_model")["properties"]["reason"]
    assert "the ranking gate did not bless it; version 1 stays served" in said
    assert [path.name for path in Path(config.serving).glob("[0-9]*")] == ["1"]
    assert digest(small_first.pushed) == served
    assert "The model was not blessed, so it was not pushed" in run.page.read_text(encoding="utf-8")


def test_a_model_that_has_seen_the_test_of_another_split_is_no_baseline(small, small_first):
    split = {"protocol": "time", "partitions": 2, "history_length": 20}
    run = local_runner.run(small(split=split), "split-otherwise", progress=False)
    assert not run_has_baseline(run)
    left_out = artifact(run, "LastBlessed", "left_out")
    assert left_out["id"] == artifact(small_first, "Trainer", "model")["id"]
    assert "There is no last blessed model: the model that was pushed last" in run.verdict[0]


def test_splits_that_are_not_alike_stop_the_run_ahead_of_all_that_learns(shop, tmp_path):
    """Everybody's last event, which is the test, is on a new kind of device."""
    events = shop.tables["interactions"]
    newest = {}
    for row, user in enumerate(events["user_id"].to_pylist()):
        newest[user] = row  # in the order of time, as `tastes_split` makes them
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


def test_splits_are_not_compared_where_there_is_no_limit(shop):
    config = shop.config("uncompared", data=alone(shop) | {"max_split_drift": None})
    ir = compilation.compile_pipeline(pipeline.create_pipeline(config))
    assert "SplitGate" not in [node.pipeline_node.node_info.id for node in ir.nodes]


def test_interactions_alone_will_do_with_numbers_as_ids_and_a_refusal_is_tried_again(
    tmp_path, monkeypatch
):
    """A CSV of whole numbers, no search, no TFMA; InfraValidator refuses at first."""
    events = tastes_split().data.events.to_pylist()
    lines = ["viewer,film,when,stars"]
    for one in events:
        item = "ü🎬" if one["item_id"] == "i3" else one["item_id"][1:]
        lines.append(f"{one['user_id'][1:]},{item},{one['time']},{one['value']}")
    (tmp_path / "log.csv").write_text("\n".join(lines), encoding="utf-8")
    columns = {"user_id": "viewer", "item_id": "film", "time": "when", "value": "stars"}
    config = PipelineConfig.from_dict(
        {
            "name": "numbers",
            "root": str(tmp_path / "runs"),
            "serving": str(tmp_path / "serving" / "numbers"),
            "data": {"interactions": {"path": str(tmp_path / "log.csv"), "columns": columns}},
            "split": {"protocol": "leave-last-out", "partitions": 2, "history_length": 20},
            "tuner": {"enabled": False},
            "trainer": {
                "strategy": {"family": "ials", "model": {"embedding_dim": 8, "l2": 1.0}},
                "export": {"history_width": 20},
            },
            "evaluator": {"resamples": 200},
        }
    )
    refuse = Refused("the machine is too busy")
    with monkeypatch.context() as patch:
        patch.setattr(infra_validator, "probe", lambda *_: (_ for _ in ()).throw(refuse))
        run = local_runner.run(config, progress=False)
    assert run.verdict[0].startswith("Blessed")
    assert run.pushed is None
    assert newest_version(config.serving) == 0
    assert "too busy" in artifact(run, "InfraValidator", "blessing")["properties"]["reason"]

    run = local_runner.run(config, progress=False)
    assert states(run)["Trainer"] == "cached"
    assert states(run)["InfraValidator"] == "ran"
    assert run.pushed == Path(config.serving) / "1"
    assert not run_has_baseline(run)  # what no server had loaded is nothing to be held to

    local_runner.run(config, progress=False)
    run = local_runner.run(config, progress=False)
    assert {node for node, state in states(run).items() if state != "cached"} <= RESOLVERS | {
        "LastStrategy"
    }
    shutil.rmtree(config.serving)  # what was served is lost
    run = local_runner.run(config, progress=False)
    assert states(run)["Pusher"] == "ran"
    assert run.pushed == Path(config.serving) / "1"


def run_has_baseline(run: local_runner.Run) -> bool:
    """Whether there was a last blessed model to compare with."""
    (record,) = (one for one in read_records(run.folder) if one.node == "LastBlessed")
    return bool(record.outputs.get("model"))


def test_a_run_goes_on_with_its_own_settings_only(shop, first):
    with pytest.raises(ValueError, match="began with other settings"):
        local_runner.run(shop.config(seed=7), "first", progress=False)


def test_the_command_says_what_is_wrong_with_a_config(tmp_path, capsys):
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\nserving: x\n")
    assert local_runner.main(["--config", str(path)]) == 2
    assert "`data` must be set" in capsys.readouterr().err
    assert local_runner.main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_killed_in_tuner_and_trainer_it_goes_on_from_finished_trials_and_epochs(shop, first):
    """SIGKILL of the node's process, which a warm worker forked."""
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
    told = json.loads((results / "trials.json").read_text())
    assert len(told) == 2
    assert told[0]["seconds"] == json.loads(first_trial)["seconds"]  # not run again
    history = Path(records["Trainer"].outputs["model_run"][0]["uri"]) / "history.jsonl"
    whole = history.read_text().splitlines()
    assert len(whole) == 30
    assert whole[: len(known) - 1] == known[:-1]  # the last may have had no checkpoint yet
    assert newest_version(config.serving) == 1


def killed_when(run: Path, node: str, ready) -> None:
    """Hands the node to the worker, and kills its process as soon as `ready` says so."""
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
    """The nodes' processes: the worker's children."""
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
