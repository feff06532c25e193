"""Evaluator, RankingGate, InfraValidator and Pusher as nodes, on what Histories made."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from scipy.special import expit
from tfx import components, types
from tfx.components.evaluator import executor as tfma_executor
from tfx.components.infra_validator import executor as infra_executor
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy
from tfx.types import channel_utils, standard_artifacts
from tfx.utils import proto_utils

import tfrec_meta as tm
from tests.pipeline import browser, conftest, gate_toys
from tfrec_meta.data import split_leave_last_out
from tfrec_meta.pipeline import artifacts, config_values
from tfrec_meta.pipeline.components import (
    evaluator,
    infra_validator,
    pusher,
)
from tfrec_meta.pipeline.components.answer_checks import Refused
from tfrec_meta.pipeline.config import EvaluatorConfig, InfraValidatorConfig, SplitConfig
from tfrec_meta.pipeline.gates import ranking_gate
from tfrec_meta.pipeline.request_rows import as_request, read_types

CONFIG = EvaluatorConfig(k=5, new_user_events=2, slices=("taste",), positive=4.0)
BLESSED, REFUSED = {"blessed": 1}, {"blessed": 0}


@pytest.fixture(scope="module")
def data():
    return gate_toys.tastes_split().data


@pytest.fixture(scope="module")
def histories(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gates")
    inputs = {}
    for name, table in (
        ("interactions", data.events),
        ("users", data.users),
        ("items", data.items),
    ):
        (folder / name).mkdir()
        inputs[name] = conftest.write_examples(table, folder / name)
    config = SplitConfig(protocol="leave-last-out", history_length=20, partitions=2)
    return conftest.run_histories(inputs, folder / "histories", config)


def model_artifact(model, folder: Path, number: int) -> types.Artifact:
    """As the Trainer makes it."""
    artifact = conftest.make_artifact(standard_artifacts.Model, folder)
    artifact.id = number
    tm.save(model, folder / "model")
    version = tm.export(model, folder / "export")
    shutil.move(version, folder / "Format-Serving")
    return artifact


@pytest.fixture(scope="module")
def good(data, tmp_path_factory):
    model = tm.train(split_leave_last_out(data).train, gate_toys.STRATEGY, progress=False)
    return model_artifact(model, tmp_path_factory.mktemp("good"), 7)


@pytest.fixture(scope="module")
def bad(good, tmp_path_factory):
    model = gate_toys.degraded(Path(good.uri) / "model")
    return model_artifact(model, tmp_path_factory.mktemp("bad"), 8)


@pytest.fixture(scope="module")
def evaluation(histories, good, tmp_path_factory):
    """What the stock Evaluator makes with our EvalConfig and our extractors."""
    component = components.Evaluator(
        examples=channel_utils.as_channel([histories["examples"]]),
        schema=channel_utils.as_channel([histories["schema"]]),
        model=channel_utils.as_channel([good]),
        eval_config=evaluator.eval_config(CONFIG),
        example_splits=evaluator.SPLITS,
        module_path=evaluator.MODULE,
    )
    folder = tmp_path_factory.mktemp("evaluation")
    made = conftest.make_artifact(standard_artifacts.ModelEvaluation, folder / "evaluation")
    unused = conftest.make_artifact(standard_artifacts.ModelBlessing, folder / "blessing")
    properties = dict(component.exec_properties)
    properties["eval_config"] = proto_utils.proto_to_json(evaluator.eval_config(CONFIG))
    conftest.beam_executor(tfma_executor.Executor).Do(
        {name: [histories[name]] for name in ("examples", "schema")} | {"model": [good]},
        {"evaluation": [made], "blessing": [unused]},
        properties,
    )
    return made


def run_gate(
    histories, folder, model, baseline=None, evaluation=None, config=CONFIG, left_out=None
):
    inputs = {name: [histories[name]] for name in ("examples", "catalogue", "seen")}
    inputs["model"] = [model]
    further = {"baseline_model": baseline, "evaluation": evaluation, "left_out": left_out}
    for name, artifact in further.items():
        inputs[name] = [artifact] if artifact else []
    outputs = {
        "blessing": conftest.make_artifact(standard_artifacts.ModelBlessing, folder / "blessing"),
        "verdict": conftest.make_artifact(artifacts.BlessingReport, folder / "verdict"),
    }
    ranking_gate.Executor().Do(
        inputs,
        {name: [artifact] for name, artifact in outputs.items()},
        {"config": config_values.as_json(config), "seed": 42},
    )
    return outputs


@pytest.fixture(scope="module")
def first(histories, good, evaluation, tmp_path_factory):
    """The first run: no model was blessed before."""
    return run_gate(histories, tmp_path_factory.mktemp("first"), good, evaluation=evaluation)


@pytest.fixture(scope="module")
def second(histories, good, bad, tmp_path_factory):
    """A degraded model against the good one."""
    return run_gate(histories, tmp_path_factory.mktemp("second"), bad, good)


def verdict_of(outputs):
    return json.loads(Path(outputs["verdict"].uri, "verdict.json").read_text())


def files(artifact):
    return sorted(path.name for path in Path(artifact.uri).iterdir())


# Evaluator.


@pytest.fixture(scope="module")
def scored(histories, good):
    """(serialised test rows, their scores by the exported model, whether they are positive)."""
    folder = Path(histories["examples"].uri, "Split-test")
    paths = sorted(str(path) for path in folder.iterdir())
    rows = list(tf.data.TFRecordDataset(paths, "GZIP").as_numpy_iterator())
    saved_model = Path(good.uri) / "Format-Serving"
    requests = [as_request(row, read_types(saved_model)) for row in rows]
    served = tf.saved_model.load(str(saved_model))
    scores = served.signatures["rank_examples"](examples=tf.constant(requests))["score"].numpy()
    features = [tf.train.Example.FromString(row).features.feature for row in rows]
    positive = np.array([f["value"].float_list.value[0] >= 4 for f in features])
    return features, scores, positive


def test_tfmas_auc_is_the_chance_that_a_positive_is_above_another(evaluation, scored):
    _, scores, positive = scored
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    found = evaluator.read_metrics(evaluation.uri)[""]
    assert found["auc"] == pytest.approx(expected, abs=0.002)
    assert found["example_count"] == gate_toys.USERS
    assert found["mean_label"] == pytest.approx(positive.mean())
    assert 0 < found["auc_precision_recall"] < 1


def test_of_a_model_with_further_outputs_the_score_is_judged():
    labels = {tfma.LABELS_KEY: np.array([1.0])}
    alone = {tfma.PREDICTIONS_KEY: np.array([0.5]), **labels}
    named = {tfma.PREDICTIONS_KEY: {"score": [0.5], "score_rating": [4.0]}, **labels}
    for extracts in (alone, named):
        np.testing.assert_array_equal(evaluator._scores_and_labels(extracts), [[0.5, 1.0]])


def test_calibration_is_of_a_sigmoid_fitted_on_the_whole(evaluation, scored):
    features, scores, positive = scored
    found = evaluator.read_metrics(evaluation.uri)
    assert found[""]["calibration"] == pytest.approx(1, abs=1e-3)
    slope, offset = evaluator.fitted_sigmoid(scores.astype(float), positive.astype(float))
    probability = expit(slope * scores + offset)
    tastes = np.array([f["taste"].bytes_list.value[0].decode() for f in features])
    for taste in set(tastes):
        mask = tastes == taste
        expected = probability[mask].mean() / positive[mask].mean()
        assert found[f"taste={taste}"]["calibration"] == pytest.approx(expected, rel=1e-3)


def test_tfma_slices_by_who_was_new_when_the_event_happened(evaluation):
    found = evaluator.read_metrics(evaluation.uri)
    counts = {name: values["example_count"] for name, values in found.items() if "new" in name}
    # 40 users have 3 events before their last, which are more than 2.
    assert counts == {"new user (at most 2 events)=no": 160.0}


def test_an_eval_config_needs_to_know_what_is_positive():
    with pytest.raises(ValueError, match="`positive` is not set"):
        evaluator.eval_config(EvaluatorConfig())


def test_a_sigmoid_of_likely_scores_is_found_again():
    rng = np.random.default_rng(0)
    scores = rng.normal(10, 5, 50_000)
    labels = (rng.random(50_000) < expit(0.5 * scores - 4)).astype(float)
    assert evaluator.fitted_sigmoid(scores, labels) == pytest.approx((0.5, -4), rel=0.05)


@pytest.mark.parametrize("labels", [[0.0, 0.0], [1.0, 1.0]])
def test_labels_that_are_all_alike_give_a_flat_sigmoid(labels):
    slope, offset = evaluator.fitted_sigmoid(np.array([1.0, 2.0]), np.array(labels))
    assert slope == 0
    assert np.isfinite(offset)


def test_scores_beyond_the_most_are_thinned_evenly(monkeypatch):
    monkeypatch.setattr(evaluator, "_MOST", 100)
    fit, pairs = evaluator._Fit(), np.stack([np.arange(90.0), np.arange(90) % 2], axis=1)
    state = fit.create_accumulator()
    for part in np.split(pairs, 3):
        state = fit.add_input(state, part)
    state = fit.merge_accumulators([state, [pairs]])
    reading = fit.extract_output(state)
    assert len(reading["sorted"]) == 90
    assert np.median(reading["sorted"]) == pytest.approx(44.5, abs=1)


# RankingGate.


def test_a_first_good_model_is_blessed_in_the_stock_evaluators_way(first, good):
    blessing = first["blessing"]
    assert files(blessing) == ["BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("current_model") == good.uri
    assert blessing.get_int_custom_property("current_model_id") == 7
    assert not blessing.has_custom_property("baseline_model")
    assert blessing.get_string_custom_property("blessing_message").startswith("Blessed: NDCG@5")


def test_the_verdict_has_every_number(first, good):
    verdict = verdict_of(first)
    assert verdict["blessed"] is True
    assert verdict["model"] == good.uri
    assert verdict["last_blessed_model"] is None
    assert verdict["settings"]["k"] == 5
    assert {"all users", "new users", "long-tail items", "taste=t0"} <= {
        check["slice"] for check in verdict["checks"]
    }
    assert 0 < verdict["signature"][""]["auc"] < 1


def test_a_degraded_model_is_not_blessed_and_the_words_say_by_how_much(second, good):
    blessing = second["blessing"]
    assert files(blessing) == ["NOT_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("baseline_model") == good.uri
    assert blessing.get_int_custom_property("baseline_model_id") == 7
    assert re.search(
        r"NDCG@5 is 0\.\d{4} below the last blessed model's \(95 % interval of the difference "
        r"-0\.\d{4} to -0\.\d{4}, 160 users\)",
        verdict_of(second)["words"],
    )


def test_the_latest_blessed_model_is_the_good_one(first, second, good, bad):
    """TFX's own strategy reads our blessings."""
    found = latest_blessed_model_strategy.LatestBlessedModelStrategy().resolve_artifacts(
        None, {"model": [good, bad], "blessing": [first["blessing"], second["blessing"]]}
    )
    assert found["model"] == [good]


def test_the_last_blessed_model_itself_passes_without_a_contest(
    histories, good, tmp_path, monkeypatch
):
    def no_contest(*_):
        raise AssertionError("it was evaluated")

    monkeypatch.setattr(ranking_gate, "evaluate_candidate", no_contest)
    copy = conftest.make_artifact(standard_artifacts.Model, tmp_path / "copy")
    shutil.copytree(Path(good.uri) / "model", tmp_path / "copy" / "model")
    for number, model in enumerate((good, copy)):
        outputs = run_gate(histories, tmp_path / str(number), model, good)
        assert outputs["blessing"].get_int_custom_property("blessed") == 1
        assert "this is the last blessed model itself" in verdict_of(outputs)["words"]


def test_a_model_of_other_splits_that_is_left_out_is_told_in_words(histories, good, bad, tmp_path):
    outputs = run_gate(histories, tmp_path / "none", good, left_out=bad)
    words = verdict_of(outputs)["words"]
    assert words.startswith("Blessed: ")
    assert words.endswith(
        " There is no last blessed model: the model that was pushed last was trained on another "
        "split, so it may have seen events of this test split."
    )
    assert outputs["blessing"].get_string_custom_property("blessing_message") == words
    assert verdict_of(outputs)["left_out"] == bad.uri
    outputs = run_gate(histories, tmp_path / "older", good, baseline=good, left_out=bad)
    words = verdict_of(outputs)["words"]
    assert "last blessed model itself" in words
    assert " The comparison uses an older last blessed model: " in words


def test_a_least_auc_without_an_evaluation_is_a_mistake_in_the_wiring(histories, good, tmp_path):
    config = EvaluatorConfig(k=5, positive=4.0, min_auc=0.5)
    with pytest.raises(ValueError, match=r"`min_auc`=0\.5, but the node has no evaluation"):
        run_gate(histories, tmp_path, good, config=config)


def test_the_components_can_be_wired():
    def channel(kind):
        return types.Channel(type=kind)

    model, examples = channel(standard_artifacts.Model), channel(standard_artifacts.Examples)
    gate = ranking_gate.RankingGate(
        examples=examples,
        catalogue=channel(artifacts.CatalogueTables),
        seen=channel(artifacts.SeenItems),
        model=model,
        config=CONFIG,
        seed=3,
    )
    assert config_values.from_json(EvaluatorConfig, gate.exec_properties["config"]) == CONFIG
    tried = infra_validator.infra_validator(model, examples, InfraValidatorConfig())
    assert isinstance(tried, infra_validator.InfraValidator)
    pushed = pusher.Pusher(model, gate.outputs["blessing"], tried.outputs["blessing"], "models/x")
    assert pushed.exec_properties == {"serving": str(Path("models/x").absolute())}


# The page.


def test_the_page_shows_what_blocked(second, tmp_path):
    page = Path(second["verdict"].uri, "verdict.html")
    shown = browser.look(page, 1200, tmp_path).dom
    assert "<h1>Not blessed</h1>" in shown
    assert "Against popularity" in shown
    assert "Against the last blessed model" in shown
    assert shown.count('<g class="failed">') >= 2
    written = page.read_text(encoding="utf-8")  # as it is, without what looks at it
    assert not re.search(r"<script|src=|https?://(?!www\.w3\.org)", written)


def test_the_page_shows_what_tfma_found(first):
    page = Path(first["verdict"].uri, "verdict.html").read_text()
    assert "<h1>Blessed</h1>" in page
    assert "The ranking signature, by TFMA" in page
    assert "<td>taste=t0</td>" in page


# InfraValidator.


def run_infra_validator(histories, model, folder):
    blessing = conftest.make_artifact(standard_artifacts.InfraBlessing, folder)
    config = InfraValidatorConfig(requests=5, seconds=77, memory_mb=1234)
    infra_validator.Executor().Do(
        {"model": [model], "examples": [histories["examples"]]},
        {"blessing": [blessing]},
        {"config": config_values.as_json(config)},
    )
    return blessing


def test_a_model_that_answered_gets_a_standard_infra_blessing(
    histories, good, scored, tmp_path, monkeypatch
):
    asked = {}

    def answered(model, examples, seconds, memory_mb):
        asked.update(model=model, examples=examples, limits=(seconds, memory_mb))
        return 12

    monkeypatch.setattr(infra_validator, "probe", answered)
    blessing = run_infra_validator(histories, good, tmp_path)
    assert files(blessing) == ["INFRA_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("reason") == ("It loads and answered 12 requests.")
    assert asked["model"] == f"{good.uri}/Format-Serving"
    assert asked["limits"] == (77, 1234)
    users = {
        tf.train.Example.FromString(row).features.feature["user_id"].bytes_list.value[0]
        for row in asked["examples"]
    }
    assert len(users) == 5


def test_a_refused_model_gets_no_infra_blessing_and_no_error(
    histories, good, tmp_path, monkeypatch
):
    def refuses(*_):
        raise Refused("it does not load: no graph")

    monkeypatch.setattr(infra_validator, "probe", refuses)
    blessing = run_infra_validator(histories, good, tmp_path)
    assert files(blessing) == ["INFRA_NOT_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("reason") == ("Refused: it does not load: no graph.")


def test_docker_is_the_stock_infra_validator():
    made = infra_validator.infra_validator(
        types.Channel(type=standard_artifacts.Model),
        types.Channel(type=standard_artifacts.Examples),
        InfraValidatorConfig(server="docker", image="host:5000/serving:2.19", seconds=30),
    )
    assert isinstance(made, components.InfraValidator)
    serving = json.loads(made.exec_properties["serving_spec"])
    assert serving["tensorflow_serving"]["image_name"] == "host:5000/serving"
    assert serving["tensorflow_serving"]["tags"] == ["2.19"]
    assert json.loads(made.exec_properties["validation_spec"])["max_loading_time_seconds"] == 30


def test_docker_is_asked_what_the_model_can_answer(histories, good, tmp_path, monkeypatch):
    """Everything but the container: the requests go to the SavedModel itself."""
    served = tf.saved_model.load(f"{good.uri}/Format-Serving")
    answers = []

    def instead_of_docker(self, *, requests, serving_spec, **_):
        for request in requests:
            assert request.model_spec.name == serving_spec.model_name
            signature = served.signatures[request.model_spec.signature_name]
            rows = tf.make_ndarray(request.inputs["examples"])
            answers.append(signature(examples=tf.constant(rows))["item_id"].numpy())
        return True

    monkeypatch.setattr(infra_executor.Executor, "_ValidateWithRetry", instead_of_docker)
    # Ages are whole numbers in the examples.
    monkeypatch.setattr(infra_validator, "read_types", lambda _: {"age": tf.float32})
    asked = []
    as_it_was = infra_validator.as_request
    monkeypatch.setattr(
        infra_validator, "as_request", lambda *row: asked.append(as_it_was(*row)) or asked[-1]
    )
    made = infra_validator.infra_validator(
        types.Channel(type=standard_artifacts.Model),
        types.Channel(type=standard_artifacts.Examples),
        InfraValidatorConfig(server="docker", requests=3),
    )
    blessing = conftest.make_artifact(standard_artifacts.InfraBlessing, tmp_path / "blessing")
    context = infra_executor.Executor.Context(tmp_dir=str(tmp_path / "tmp"), unique_id="1")
    made.EXECUTOR_SPEC.executor_class(context).Do(
        {"model": [good], "examples": [histories["examples"]]},
        {"blessing": [blessing]},
        {name: value for name, value in made.exec_properties.items() if value is not None},
    )
    assert files(blessing) == ["INFRA_BLESSED"]
    assert [len(answer) for answer in answers] == [1, 1, 1]
    assert all(answer[0, 0] for answer in answers)
    ages = [tf.train.Example.FromString(row).features.feature["age"] for row in asked]
    assert [len(age.float_list.value) for age in ages] == [1, 1, 1]


@pytest.mark.parametrize(
    "image, name, tag",
    [
        ("tensorflow/serving:latest", "tensorflow/serving", "latest"),
        ("tensorflow/serving", "tensorflow/serving", "latest"),
        ("host:5000/serving", "host:5000/serving", "latest"),
    ],
)
def test_an_image_is_parted_from_its_tag(image, name, tag):
    assert infra_validator._image_and_tag(image) == (name, tag)


# Pusher.


def blessing_of(kind, **properties):
    artifact = kind()
    for name, value in properties.items():
        artifact.set_int_custom_property(name, value)
    return artifact


def run_pusher(model, serving, folder, model_blessing, infra_blessing):
    pushed = conftest.make_artifact(standard_artifacts.PushedModel, folder)
    pusher.Executor().Do(
        {
            "model": [model],
            "model_blessing": [model_blessing] if model_blessing else [],
            "infra_blessing": [infra_blessing] if infra_blessing else [],
        },
        {"pushed_model": [pushed]},
        {"serving": str(serving)},
    )
    return pushed


INFRA = standard_artifacts.InfraBlessing
MODEL = standard_artifacts.ModelBlessing


def test_a_blessed_model_is_pushed_once(good, first, tmp_path):
    serving = tmp_path / "films"
    infra = blessing_of(INFRA, **BLESSED)
    pushed = run_pusher(good, serving, tmp_path / "one", first["blessing"], infra)
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == str(serving / "1")
    assert pushed.get_string_custom_property("pushed_version") == "1"
    assert pushed.get_int_custom_property("new_version") == 1
    assert (serving / "1" / "saved_model.pb").is_file()
    again = run_pusher(good, serving, tmp_path / "two", first["blessing"], infra)
    assert again.get_int_custom_property("pushed") == 1
    assert again.get_string_custom_property("pushed_version") == "1"
    assert again.get_int_custom_property("new_version") == 0
    assert [path.name for path in serving.iterdir() if path.is_dir()] == ["1"]


def test_a_degraded_model_leaves_the_last_good_one_served(good, bad, first, second, tmp_path):
    serving = tmp_path / "films"
    infra = blessing_of(INFRA, **BLESSED)
    run_pusher(good, serving, tmp_path / "one", first["blessing"], infra)
    refused = run_pusher(bad, serving, tmp_path / "two", second["blessing"], infra)
    assert refused.get_int_custom_property("pushed") == 0
    assert refused.get_string_custom_property("reason") == (
        "Not pushed: the ranking gate did not bless it; version 1 stays served."
    )
    assert [path.name for path in serving.iterdir() if path.is_dir()] == ["1"]


@pytest.mark.parametrize(
    "ranked, tried, reason",
    [
        (REFUSED, REFUSED, "the ranking gate did not bless it and InfraValidator did not bless it"),
        (BLESSED, REFUSED, "InfraValidator did not bless it"),
        (BLESSED, None, "InfraValidator did not evaluate it"),
        (None, BLESSED, "the ranking gate did not evaluate it"),
    ],
)
def test_without_both_blessings_nothing_is_pushed(good, tmp_path, ranked, tried, reason):
    pushed = run_pusher(
        good,
        tmp_path / "films",
        tmp_path / "pushed",
        ranked and blessing_of(MODEL, **ranked),
        tried and blessing_of(INFRA, **tried),
    )
    assert pushed.get_int_custom_property("pushed") == 0
    found = pushed.get_string_custom_property("reason")
    assert found == f"Not pushed: {reason}; no version is served yet."
    assert not (tmp_path / "films").exists()
    assert json.loads(Path(pushed.uri, "push.json").read_text())["reason"] == found
