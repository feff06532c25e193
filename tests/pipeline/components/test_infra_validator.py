"""InfraValidator: standard blessings, and the stock component for Docker."""

import json

import pytest
import tensorflow as tf
from tfx import components, types
from tfx.components.infra_validator import executor as infra_executor
from tfx.types import standard_artifacts

from tests.pipeline import conftest
from tfrec_meta.pipeline.components import infra_validator
from tfrec_meta.pipeline.components.answer_checks import Refused
from tfrec_meta.pipeline.config import InfraValidatorConfig
from tfrec_meta.pipeline.config_values import as_json


def run_infra_validator(taste_histories, model, folder):
    blessing = conftest.make_artifact(standard_artifacts.InfraBlessing, folder)
    config = InfraValidatorConfig(requests=5, seconds=77, memory_mb=1234)
    infra_validator.Executor().Do(
        {"model": [model], "examples": [taste_histories["examples"]]},
        {"blessing": [blessing]},
        {"config": as_json(config)},
    )
    return blessing


def test_blesses_a_model_that_answered(taste_histories, good_model, tmp_path, monkeypatch):
    calls = {}

    def answered(model, examples, seconds, memory_mb):
        calls.update(model=model, examples=examples, limits=(seconds, memory_mb))
        return 12

    monkeypatch.setattr(infra_validator, "probe", answered)
    blessing = run_infra_validator(taste_histories, good_model, tmp_path)
    assert conftest.files(blessing) == ["INFRA_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("reason") == ("It loads and answered 12 requests.")
    assert calls["model"] == f"{good_model.uri}/Format-Serving"
    assert calls["limits"] == (77, 1234)
    users = {
        tf.train.Example.FromString(row).features.feature["user_id"].bytes_list.value[0]
        for row in calls["examples"]
    }
    assert len(users) == 5


def test_does_not_bless_a_refused_model_and_raises_no_error(
    taste_histories, good_model, tmp_path, monkeypatch
):
    def refuses(*_):
        raise Refused("it does not load: no graph")

    monkeypatch.setattr(infra_validator, "probe", refuses)
    blessing = run_infra_validator(taste_histories, good_model, tmp_path)
    assert conftest.files(blessing) == ["INFRA_NOT_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("reason") == ("Refused: it does not load: no graph.")


def test_docker_uses_the_stock_infra_validator():
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


def test_docker_receives_requests_that_the_model_can_answer(
    taste_histories, good_model, tmp_path, monkeypatch
):
    """Everything except the container: the requests go to the SavedModel."""
    served = tf.saved_model.load(f"{good_model.uri}/Format-Serving")
    answers = []

    def instead_of_docker(self, *, requests, serving_spec, **_):
        for request in requests:
            assert request.model_spec.name == serving_spec.model_name
            signature = served.signatures[request.model_spec.signature_name]
            rows = tf.make_ndarray(request.inputs["examples"])
            answers.append(signature(examples=tf.constant(rows))["item_id"].numpy())
        return True

    monkeypatch.setattr(infra_executor.Executor, "_ValidateWithRetry", instead_of_docker)
    # Ages are integers in the examples.
    monkeypatch.setattr(infra_validator, "read_types", lambda _: {"age": tf.float32})
    sent = []
    as_request = infra_validator.as_request
    monkeypatch.setattr(
        infra_validator, "as_request", lambda *row: sent.append(as_request(*row)) or sent[-1]
    )
    made = infra_validator.infra_validator(
        types.Channel(type=standard_artifacts.Model),
        types.Channel(type=standard_artifacts.Examples),
        InfraValidatorConfig(server="docker", requests=3),
    )
    blessing = conftest.make_artifact(standard_artifacts.InfraBlessing, tmp_path / "blessing")
    context = infra_executor.Executor.Context(tmp_dir=str(tmp_path / "tmp"), unique_id="1")
    made.EXECUTOR_SPEC.executor_class(context).Do(
        {"model": [good_model], "examples": [taste_histories["examples"]]},
        {"blessing": [blessing]},
        {name: value for name, value in made.exec_properties.items() if value is not None},
    )
    assert conftest.files(blessing) == ["INFRA_BLESSED"]
    assert [len(answer) for answer in answers] == [1, 1, 1]
    assert all(answer[0, 0] for answer in answers)
    ages = [tf.train.Example.FromString(row).features.feature["age"] for row in sent]
    assert [len(age.float_list.value) for age in ages] == [1, 1, 1]


@pytest.mark.parametrize(
    "image, name, tag",
    [
        ("tensorflow/serving:latest", "tensorflow/serving", "latest"),
        ("tensorflow/serving", "tensorflow/serving", "latest"),
        ("host:5000/serving", "host:5000/serving", "latest"),
    ],
)
def test_separates_an_image_from_its_tag(image, name, tag):
    assert infra_validator._image_and_tag(image) == (name, tag)
