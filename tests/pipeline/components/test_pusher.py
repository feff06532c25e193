"""Pusher: pushes what both gates blessed, and nothing else."""

import json
from pathlib import Path

import pytest
from tfx import types
from tfx.types import standard_artifacts

from tests.pipeline import conftest
from tfrec_meta.export.published import published_versions
from tfrec_meta.io.stores import RemotePath
from tfrec_meta.pipeline.components import pusher

BLESSED, REFUSED = {"blessed": 1}, {"blessed": 0}


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


def test_pushes_a_blessed_model_once(good_model, good_verdict, tmp_path):
    serving = tmp_path / "films"
    infra = blessing_of(INFRA, **BLESSED)
    pushed = run_pusher(good_model, serving, tmp_path / "one", good_verdict["blessing"], infra)
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == str(serving / "1")
    assert pushed.get_string_custom_property("pushed_version") == "1"
    assert pushed.get_int_custom_property("new_version") == 1
    assert (serving / "1" / "saved_model.pb").is_file()
    again = run_pusher(good_model, serving, tmp_path / "two", good_verdict["blessing"], infra)
    assert again.get_int_custom_property("pushed") == 1
    assert again.get_string_custom_property("pushed_version") == "1"
    assert again.get_int_custom_property("new_version") == 0
    assert [path.name for path in serving.iterdir() if path.is_dir()] == ["1"]


def test_keeps_the_last_good_model_served(
    good_model, degraded_model, good_verdict, degraded_verdict, tmp_path
):
    serving = tmp_path / "films"
    infra = blessing_of(INFRA, **BLESSED)
    run_pusher(good_model, serving, tmp_path / "one", good_verdict["blessing"], infra)
    refused = run_pusher(
        degraded_model, serving, tmp_path / "two", degraded_verdict["blessing"], infra
    )
    assert refused.get_int_custom_property("pushed") == 0
    assert refused.get_string_custom_property("reason") == (
        "Not pushed: the ranking gate did not bless it; version 1 stays served."
    )
    assert [path.name for path in serving.iterdir() if path.is_dir()] == ["1"]


@pytest.mark.parametrize(
    "ranking, infra, reason",
    [
        (REFUSED, REFUSED, "the ranking gate did not bless it and InfraValidator did not bless it"),
        (BLESSED, REFUSED, "InfraValidator did not bless it"),
        (BLESSED, None, "InfraValidator did not evaluate it"),
        (None, BLESSED, "the ranking gate did not evaluate it"),
    ],
)
def test_pushes_nothing_without_both_blessings(good_model, tmp_path, ranking, infra, reason):
    pushed = run_pusher(
        good_model,
        tmp_path / "films",
        tmp_path / "pushed",
        ranking and blessing_of(MODEL, **ranking),
        infra and blessing_of(INFRA, **infra),
    )
    assert pushed.get_int_custom_property("pushed") == 0
    found = pushed.get_string_custom_property("reason")
    assert found == f"Not pushed: {reason}; no version is served yet."
    assert not (tmp_path / "films").exists()
    assert json.loads(Path(pushed.uri, "push.json").read_text())["reason"] == found


def test_pushes_to_an_object_store(good_model, good_verdict, s3, tmp_path):
    serving = f"{s3}/models/films"
    infra = blessing_of(INFRA, **BLESSED)
    pushed = run_pusher(good_model, serving, tmp_path / "one", good_verdict["blessing"], infra)
    assert pushed.get_string_custom_property("pushed_destination") == f"{serving}/1"
    assert published_versions(RemotePath(serving)) == [1]
    refused = run_pusher(good_model, serving, tmp_path / "two", None, infra)
    reason = refused.get_string_custom_property("reason")
    assert reason == "Not pushed: the ranking gate did not evaluate it; version 1 stays served."
    node = pusher.Pusher(
        *[types.Channel(type=kind) for kind in (standard_artifacts.Model, MODEL, INFRA)], serving
    )
    assert node.exec_properties["serving"] == serving
