"""Trainer: artifacts, hyperparameters, warm starts, and continuing after a kill."""

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

import tfrec_meta as tm
from tests.pipeline import conftest, training_toys
from tfrec_meta import load
from tfrec_meta.evaluation import Objective
from tfrec_meta.export import saved_model
from tfrec_meta.features.transform import spec_of
from tfrec_meta.metalearning import recommender
from tfrec_meta.pipeline import artifacts
from tfrec_meta.pipeline.components import server_probe, trainer
from tfrec_meta.pipeline.config import TrainerConfig
from tfrec_meta.training.session import TrainingSession
from tfrec_meta.tuning import StrategySpace
from tfrec_meta.workflows import train as workflow


def settings(root, **options):
    options = {"strategy": training_toys.STRATEGY, **options}
    return training_toys.config(root, trainer=TrainerConfig(**options))


@pytest.fixture(scope="session")
def given(toy_histories, toy_graph):
    made = training_toys.inputs(toy_histories, toy_graph)
    return {**made, "schema": toy_histories["schema"]}


@pytest.fixture
def without_export(monkeypatch):
    """Skips the SavedModel, which takes longer than the training of a toy."""

    def write_nothing(model, folder, name, config):
        folder.mkdir(parents=True)

    monkeypatch.setattr(saved_model, "write_model", write_nothing)


@pytest.fixture(scope="module")
def trained(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return training_toys.train(settings(folder), given, folder), folder


def model_of(outputs):
    return load(Path(outputs["model"].uri) / artifacts.MODEL)


def test_writes_a_savedmodel_and_a_model_to_load(trained, given):
    outputs, _ = trained
    serving = Path(outputs["model"].uri) / "Format-Serving"
    assert (serving / "assets.extra" / "tf_serving_warmup_requests").is_file()
    model = model_of(outputs)
    assert model.spec == spec_of(given["transform_graph"].uri)
    recommend = tf.saved_model.load(str(serving)).signatures["serving_default"]
    user = model.spec.users.tokens[0].as_py()
    name = tf.train.Feature(bytes_list=tf.train.BytesList(value=[user.encode()]))
    example = tf.train.Example(features=tf.train.Features(feature={"user_id": name}))
    answer = recommend(examples=tf.constant([example.SerializeToString()]))
    scores = model.score(model.spec.encode_queries([user], np.array([[""]], object)))[0]
    found = [item.decode() for item in answer["item_id"].numpy()[0]]
    assert found == list(model.spec.items.decode(np.argsort(-scores)[:10] + 1))


def test_writes_strategy_curve_and_logs(trained):
    run = Path(trained[0]["model_run"].uri)
    strategy = tm.Strategy.from_dict(json.loads((run / trainer.STRATEGY).read_text()))
    assert strategy.model.embedding_dim == 8
    assert strategy.training.epochs == 3
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert 1 <= len(lines) <= 3
    assert 0 < lines[0][Objective.NDCG] < 1  # computed on the validation split
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))


def test_removes_the_work_folder_when_finished(trained):
    assert not list((trained[1] / "toy" / "work" / "training").iterdir())


def test_execution_properties_have_the_relevant_settings_only(given, tmp_path):
    def made(**changes):
        config = dataclasses.replace(settings(tmp_path), **changes)
        return training_toys.properties(training_toys.component(trainer.Trainer, config, **given))

    same = made(beam=("--direct_num_workers=2",), cache=False, data=settings(tmp_path).data)
    assert made() == same
    assert made() != made(seed=7)


def hyperparameters(folder, values):
    space = StrategySpace().hyperparameters()
    space.values = {**space.values, **values}
    artifact = conftest.make_artifact(standard_artifacts.HyperParameters, folder / "best")
    (folder / "best" / "best_hyperparameters.txt").write_text(json.dumps(space.get_config()))
    return artifact


@pytest.mark.parametrize(
    "given_export, exported", [({}, True), ({"recommend_history": False}, False)]
)
def test_history_is_recommended_again_if_the_config_says_so(
    given, tmp_path, monkeypatch, given_export, exported
):
    calls = []

    def stop_at_export(model, folder, name, config):
        calls.append(config.recommend_history)
        folder.mkdir(parents=True)

    def train(*arguments, **options):
        calls.append(options["recommend_history"])
        return original(*arguments, **options)

    original = workflow.train
    monkeypatch.setattr(saved_model, "write_model", stop_at_export)
    monkeypatch.setattr(workflow, "train", train)
    config = settings(tmp_path, strategy={"family": "popularity"}, export=given_export)
    training_toys.train(dataclasses.replace(config, recommend_history=True), given, tmp_path)
    assert calls == [True, exported]


@pytest.mark.usefixtures("without_export")
def test_hyperparameters_override_the_configs_strategy(given, tmp_path):
    best = hyperparameters(tmp_path, {"two_tower/embedding_dim": 16})
    outputs = training_toys.train(settings(tmp_path), {**given, "hyperparameters": best}, tmp_path)
    strategy = json.loads((Path(outputs["model_run"].uri) / trainer.STRATEGY).read_text())
    assert model_of(outputs).config.embedding_dim == 16
    assert strategy["training"]["epochs"] == 3
    assert strategy["training"]["batch_size"] == 512  # of the space's default


@pytest.mark.slow
@pytest.mark.usefixtures("without_export")
def test_trains_with_the_strategys_teacher(given, tmp_path):
    plain = {**training_toys.STRATEGY, "model": {"embedding_dim": 8, "negatives": "full"}}
    models = {}
    for name, strategy in (("plain", plain), ("taught", {**plain, "teacher": "ials"})):
        folder = tmp_path / name
        models[name] = model_of(
            training_toys.train(settings(folder, strategy=strategy), given, folder)
        )
    one, other = (model.state() for model in models.values())
    assert one.keys() == other.keys()
    assert any(np.abs(one[key] - other[key]).max() > 1e-4 for key in one)


@pytest.mark.slow
def test_a_meta_learned_model_is_trained_on_episodes_and_its_adapt_is_probed(
    given, tmp_path, monkeypatch
):
    monkeypatch.setattr(recommender, "MIN_TASKS", 10)  # the toy data has 60 users
    shape = {"embedding_dim": 6, "shots": 4, "folds": 2, "steps": 4, "iterations": 2}
    config = settings(
        tmp_path,
        strategy={"family": "meta_learned", "model": shape},
        export={"support_width": 4, "exclude_width": 1, "max_k": 5, "k": 3},
    )
    outputs = training_toys.train(config, given, tmp_path)
    model = model_of(outputs)
    untaught = type(model)(model.config, model.spec)
    assert np.abs(model.gains.numpy() - untaught.gains.numpy()).max() > 1e-3
    serving = Path(outputs["model"].uri) / "Format-Serving"
    signatures = [r.model_spec.signature_name for r in server_probe._requests(serving, [], {})]
    assert "adapt" in signatures  # of InfraValidator's requests
    adapt = tf.saved_model.load(str(serving)).signatures["adapt"]
    first, second = model.spec.items.tokens[:2].to_pylist()
    answer = adapt(
        item_id=tf.constant([[first, second, "nothing of ours", ""]]),
        label=tf.ones([1, 4]),
        exclude=tf.constant([[""]]),
        k=tf.constant([3]),
    )
    (expected,) = tm.adapt(model, [[first, second, "nothing of ours"]], k=3)
    found = [item.decode() for item in answer["item_id"].numpy()[0] if item]
    assert found == [one.item_id for one in expected.items]
    assert answer["support_used"].numpy() == expected.support_used == 2


def test_refuses_hyperparameters_without_a_family():
    with pytest.raises(ValueError, match="have no `family`, only units"):
        trainer.chosen_strategy({}, 1, {"values": {"units": 3}})


def test_uses_the_pipelines_seed_unless_the_strategy_has_one():
    assert trainer.chosen_strategy({}, 7).training.seed == 7
    assert trainer.chosen_strategy({"training": {"seed": 1}}, 7).training.seed == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": {"family": "oracle_bones"}}, "oracle_bones"),
        ({"strategy": {"training": {"epoch": 3}}}, "TrainingConfig has no epoch"),
        ({"export": {"max": 3}}, "ExportConfig has no max"),
    ],
)
def test_refuses_an_invalid_config_before_anything_runs(given, options, message):
    with pytest.raises(ValueError, match=message):
        training_toys.component(trainer.Trainer, settings("unused", **options), **given)


# Faults.


class Kill(BaseException):
    """Simulates SIGKILL: no code catches it."""


def killed(monkeypatch, owner, name, *, call=1):
    """Replaces a function so that its call number `call` simulates a kill."""
    real, count = getattr(owner, name), 0

    def dying(*args, **kwargs):
        nonlocal count
        count += 1
        if count == call:
            raise Kill
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


def assert_same_model(one, other):
    for name, value in one.state().items():
        np.testing.assert_array_equal(value, other.state()[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (TrainingSession, "on_epoch_begin", 2),  # in training
        (saved_model, "write_model", 1),  # trained, and partly written
    ],
)
@pytest.mark.usefixtures("without_export")
def test_continues_after_a_kill_to_the_same_weights(
    given, trained, tmp_path, monkeypatch, owner, name, call
):
    config = settings(tmp_path)
    with monkeypatch.context() as patch:
        killed(patch, owner, name, call=call)
        with pytest.raises(Kill):
            training_toys.train(config, given, tmp_path / "killed")
    (work,) = (tmp_path / "toy" / "work" / "training").iterdir()
    finished = len((work / "history.jsonl").read_text().splitlines())
    assert finished == (1 if owner is TrainingSession else 3)
    begun = []
    real = TrainingSession.on_epoch_begin
    monkeypatch.setattr(
        TrainingSession,
        "on_epoch_begin",
        lambda self, epoch, logs=None: (begun.append(epoch), real(self, epoch, logs)),
    )
    outputs = training_toys.train(config, given, tmp_path / "again")
    assert begun == list(range(finished, 3))
    assert_same_model(model_of(outputs), model_of(trained[0]))
    assert not work.exists()


@pytest.fixture(scope="module")
def second_span(given, tmp_path_factory):
    """The data a day later: new users, new items, and rare items became frequent."""
    folder = tmp_path_factory.mktemp("second_span")
    rows = conftest.toy_interactions(600, 70, 90, seed=9)
    item = pa.array([f"i{89 - int(token.as_py()[1:])}" for token in rows["item_id"]])
    rows = rows.set_column(rows.column_names.index("item_id"), "item_id", item)
    tables = {
        "interactions": rows,
        "users": conftest.toy_users(70),
        "items": conftest.toy_items(90),
    }
    examples = {}
    for name, table in tables.items():
        (folder / name).mkdir()
        examples[name] = conftest.write_examples(table, folder / name)
    made = conftest.run_histories(examples, folder / "made")
    graph = conftest.fitted_graph(made, folder / "graph", earlier=given["transform_graph"])
    inputs = training_toys.inputs(made, graph)
    return {**inputs, "schema": made["schema"]}


@pytest.mark.usefixtures("without_export")
def test_a_warm_start_begins_with_the_exact_embeddings_of_known_tokens(
    trained, second_span, tmp_path, monkeypatch
):
    at_start = {}
    real = TrainingSession.on_epoch_begin

    def look(self, epoch, logs=None):
        if epoch == 0:
            at_start.update(items=self.trained.item_embedding.numpy(), spec=self.trained.spec)
            at_start.update(users=self.trained.user_embedding.numpy())
        real(self, epoch, logs)

    monkeypatch.setattr(TrainingSession, "on_epoch_begin", look)
    config = settings(tmp_path, warm_start=True)
    given = {**second_span, "base_model": trained[0]["model"]}
    outputs = training_toys.train(config, given, tmp_path)
    earlier, spec = model_of(trained[0]), at_start["spec"]
    for side in ("items", "users"):
        before = getattr(earlier.spec, side).tokens.to_pylist()
        now = getattr(spec, side).tokens.to_pylist()
        assert now[: len(before)] == before  # old tokens keep their rows
        assert len(now) > len(before)
        table = earlier.item_embedding if side == "items" else earlier.user_embedding
        np.testing.assert_array_equal(at_start[side][: len(before) + 1], table.numpy())
        assert at_start[side][len(before) + 1 :].any()
    moved = model_of(outputs).item_embedding.numpy()
    assert not np.array_equal(moved, at_start["items"])


def test_starts_cold_unless_the_config_and_a_base_model_allow_a_warm_start(
    trained, given, tmp_path, monkeypatch
):
    begun = []

    def stop(*_, warm_start, **__):
        begun.append(warm_start)
        raise Kill

    monkeypatch.setattr(workflow, "train", stop)
    for options, base in (
        ({}, {"base_model": trained[0]["model"]}),
        ({"warm_start": True}, {}),
        ({"warm_start": True}, {"base_model": trained[0]["model"]}),
    ):
        with pytest.raises(Kill):
            training_toys.train(settings(tmp_path, **options), {**given, **base}, tmp_path)
    assert [model is None for model in begun] == [True, True, False]


@pytest.mark.usefixtures("without_export")
def test_logs_a_cold_start_for_a_base_model_of_another_shape(trained, given, tmp_path, caplog):
    strategy = {"model": {"embedding_dim": 4}, "training": {"epochs": 1, "batch_size": 64}}
    config = settings(tmp_path, strategy=strategy, warm_start=True)
    with caplog.at_level(logging.WARNING, "tfrec_meta.pipeline.components.trainer"):
        outputs = training_toys.train(
            config, {**given, "base_model": trained[0]["model"]}, tmp_path
        )
    assert "Cold start instead of a warm start: `embedding_dim`=4 cannot start" in caplog.text
    assert model_of(outputs).config.embedding_dim == 4
