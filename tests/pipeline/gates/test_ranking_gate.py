"""RankingGate: standard blessings, and verdicts as JSON."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tfx import types
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy
from tfx.types import standard_artifacts

from tests.pipeline import conftest, gate_toys
from tfrec_meta.pipeline import artifacts
from tfrec_meta.pipeline.components import infra_validator, pusher
from tfrec_meta.pipeline.config import EvaluatorConfig, InfraValidatorConfig
from tfrec_meta.pipeline.config_values import from_json
from tfrec_meta.pipeline.gates import ranking_gate


def verdict_of(outputs):
    return json.loads(Path(outputs["verdict"].uri, "verdict.json").read_text())


def test_blesses_a_first_good_model_in_the_stock_evaluators_format(good_verdict, good_model):
    blessing = good_verdict["blessing"]
    assert conftest.files(blessing) == ["BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 1
    assert blessing.get_string_custom_property("current_model") == good_model.uri
    assert blessing.get_int_custom_property("current_model_id") == 7
    assert not blessing.has_custom_property("baseline_model")
    assert blessing.get_string_custom_property("blessing_message").startswith("Blessed: NDCG@5")


def test_the_verdict_has_every_number(evaluated_verdict, good_model):
    verdict = verdict_of(evaluated_verdict)
    assert verdict["blessed"] is True
    assert verdict["model"] == good_model.uri
    assert verdict["last_blessed_model"] is None
    assert verdict["settings"]["k"] == 5
    assert {"all_users", "new_users", "long_tail_items", "taste=t0"} <= {
        check["slice"] for check in verdict["checks"]
    }
    assert 0 < verdict["signature"][""]["auc"] < 1


def test_does_not_bless_a_degraded_model_and_names_the_difference(degraded_verdict, good_model):
    blessing = degraded_verdict["blessing"]
    assert conftest.files(blessing) == ["NOT_BLESSED"]
    assert blessing.get_int_custom_property("blessed") == 0
    assert blessing.get_string_custom_property("baseline_model") == good_model.uri
    assert blessing.get_int_custom_property("baseline_model_id") == 7
    assert re.search(
        r"NDCG@5 is 0\.\d{4} below the last blessed model's \(95 % interval of the difference "
        r"-0\.\d{4} to -0\.\d{4}, 160 users\)",
        verdict_of(degraded_verdict)["words"],
    )


def test_tfxs_own_strategy_finds_the_blessed_model(
    good_verdict, degraded_verdict, good_model, degraded_model
):
    found = latest_blessed_model_strategy.LatestBlessedModelStrategy().resolve_artifacts(
        None,
        {
            "model": [good_model, degraded_model],
            "blessing": [good_verdict["blessing"], degraded_verdict["blessing"]],
        },
    )
    assert found["model"] == [good_model]


def test_blesses_the_last_blessed_model_without_a_comparison(
    taste_histories, good_model, tmp_path, monkeypatch
):
    def no_comparison(*_):
        raise AssertionError("it was evaluated")

    monkeypatch.setattr(ranking_gate, "evaluate_candidate", no_comparison)
    copy = conftest.make_artifact(standard_artifacts.Model, tmp_path / "copy")
    shutil.copytree(Path(good_model.uri) / "model", tmp_path / "copy" / "model")
    for number, model in enumerate((good_model, copy)):
        outputs = conftest.run_ranking_gate(
            taste_histories, tmp_path / str(number), model, good_model
        )
        assert outputs["blessing"].get_int_custom_property("blessed") == 1
        assert "this is the last blessed model itself" in verdict_of(outputs)["words"]


def test_the_verdict_names_a_model_of_another_split_that_is_left_out(
    taste_histories, good_model, degraded_model, tmp_path
):
    outputs = conftest.run_ranking_gate(
        taste_histories, tmp_path / "none", good_model, left_out=degraded_model
    )
    words = verdict_of(outputs)["words"]
    assert words.startswith("Blessed: ")
    assert words.endswith(
        " There is no last blessed model: the model that was pushed last was trained on another "
        "split, so it may have seen events of this test split."
    )
    assert outputs["blessing"].get_string_custom_property("blessing_message") == words
    assert verdict_of(outputs)["left_out"] == degraded_model.uri
    outputs = conftest.run_ranking_gate(
        taste_histories,
        tmp_path / "older",
        good_model,
        baseline=good_model,
        left_out=degraded_model,
    )
    words = verdict_of(outputs)["words"]
    assert "last blessed model itself" in words
    assert " The comparison uses an older last blessed model: " in words


def test_refuses_min_auc_without_an_evaluation(taste_histories, good_model, tmp_path):
    config = EvaluatorConfig(k=5, positive=4.0, min_auc=0.5)
    with pytest.raises(ValueError, match=r"`min_auc`=0\.5, but the node has no evaluation"):
        conftest.run_ranking_gate(taste_histories, tmp_path, good_model, config=config)


def test_the_components_can_be_connected():
    def channel(kind):
        return types.Channel(type=kind)

    model, examples = channel(standard_artifacts.Model), channel(standard_artifacts.Examples)
    gate = ranking_gate.RankingGate(
        examples=examples,
        catalogue=channel(artifacts.CatalogueTables),
        seen=channel(artifacts.SeenItems),
        model=model,
        config=gate_toys.CONFIG,
        seed=3,
    )
    assert from_json(EvaluatorConfig, gate.exec_properties["config"]) == gate_toys.CONFIG
    infra = infra_validator.infra_validator(model, examples, InfraValidatorConfig())
    assert isinstance(infra, infra_validator.InfraValidator)
    pushed = pusher.Pusher(model, gate.outputs["blessing"], infra.outputs["blessing"], "models/x")
    assert pushed.exec_properties == {"serving": str(Path("models/x").absolute())}
