"""The arguments of Beam that a config stands for."""

import json

import pytest

from tests.pipeline import conftest
from tfrec_meta.data import Interactions, split_by_time
from tfrec_meta.data.cleaning import CleaningRules
from tfrec_meta.data.events import SCHEMA
from tfrec_meta.pipeline.components.histories import DROPPED
from tfrec_meta.pipeline.config import PipelineConfig, SplitConfig
from tfrec_meta.pipeline.configs.beam_config import IN_PROCESS, BeamConfig
from tfrec_meta.pipeline.events import read_split

LEAST = {"name": "films", "serving": "films", "data": {"interactions": {"path": "log.csv"}}}


def arguments(beam):
    return PipelineConfig.from_dict(LEAST | {"beam": beam}).beam.arguments


def test_beam_runs_in_this_process_by_default():
    assert PipelineConfig.from_dict(LEAST).beam.arguments == IN_PROCESS
    assert arguments(["--direct_num_workers=1"]) == (*IN_PROCESS, "--direct_num_workers=1")


def test_options_with_a_runner_are_all_arguments():
    given = ["--runner=FlinkRunner", "--flink_master=host:8081"]
    assert arguments(given) == arguments({"options": given}) == tuple(given)


def test_generates_the_arguments_of_each_runner():
    assert arguments({"runner": "processes"})[-2:] == (
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=0",
    )
    container = ("--environment_type=DOCKER", "--environment_config=shop:1")
    flink = {"runner": "flink", "master": "host:8081", "image": "shop:1", "workers": 8}
    assert arguments(flink | {"options": ["--flink_version=1.18"]}) == (
        "--runner=FlinkRunner",
        "--flink_master=host:8081",
        *container,
        "--parallelism=8",
        "--flink_version=1.18",
    )
    assert arguments({"runner": "spark", "master": "spark://host:7077", "image": "shop:1"}) == (
        "--runner=SparkRunner",
        "--spark_master_url=spark://host:7077",
        *container,
    )
    cloud = {"project": "shop", "region": "europe-west1", "temp_location": "gs://shop/beam"}
    assert arguments({"runner": "dataflow", "image": "shop:1", "workers": 4} | cloud) == (
        "--runner=DataflowRunner",
        "--project=shop",
        "--region=europe-west1",
        "--temp_location=gs://shop/beam",
        "--sdk_container_image=shop:1",
        "--max_num_workers=4",
    )


def test_only_runners_that_are_tested_are_no_longer_untried():
    assert not BeamConfig().is_untried
    assert not BeamConfig("processes", workers=2).is_untried
    assert BeamConfig("spark", master="spark://host:7077", image="shop:1").is_untried


@pytest.mark.parametrize(
    "beam, words",
    [
        ({"runner": "prism"}, "`runner`='prism'"),
        ({"runner": "flink", "image": "shop:1"}, "`runner`='flink' needs `master`: the address"),
        ({"runner": "dataflow"}, "`runner`='dataflow' needs `project`"),
        ({"runner": "processes", "master": "host:1"}, "`master` has no effect with `runner`='proc"),
        ({"workers": 2}, "`workers` has no effect with `runner`='in_process'"),
        ({"runner": "processes", "workers": 0}, "`workers`=0; use a whole number, 1 or more"),
        ({"workers": 2, "options": ["--runner=FlinkRunner"]}, "`options` has --runner"),
        ({"option": []}, "Unknown setting `beam.option`"),
    ],
)
def test_settings_without_effect_and_missing_ones_are_named(beam, words):
    with pytest.raises(ValueError) as error:
        PipelineConfig.from_dict(LEAST | {"beam": beam})
    assert words in str(error.value)


@pytest.mark.slow  # two processes import TensorFlow
def test_two_worker_processes_write_the_rows_that_one_process_writes(tmp_path, monkeypatch):
    """Histories: rows, counters and the minimum counts, which need the rows of all workers."""
    table = conftest.toy_interactions(200, 20, 12)
    monkeypatch.setattr(conftest, "BEAM", BeamConfig("processes", workers=2).arguments)
    examples = {"interactions": conftest.write_examples(table, tmp_path)}
    rules = CleaningRules(min_user_events=8, min_item_events=8)
    config = SplitConfig(history_length=5, partitions=4)
    made = conftest.run_histories(examples, tmp_path, config, rules=rules)
    columns = (table[key] for key in ("user_id", "item_id", "time", "value"))
    data = Interactions.from_arrays(*columns).clean(min_user_events=8, min_item_events=8)
    dropped = json.loads(made["examples"].get_string_custom_property(DROPPED))
    assert dropped == {f"interactions: {why}": count for why, count in data.dropped.items()}
    assert len(dropped) == 2
    split = split_by_time(data, 0.8, 0.1)
    for name in ("train", "validation", "test"):
        found = read_split(made["examples"].uri, name).select(SCHEMA.names)
        wanted = getattr(split, name).events.select(SCHEMA.names)
        order = [(column, "ascending") for column in ("user_id", "time", "item_id", "value")]
        assert found.sort_by(order).equals(wanted.sort_by(order))
