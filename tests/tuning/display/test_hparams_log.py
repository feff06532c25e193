"""TensorBoard's HParams, read back from the event files."""

import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util import tensor_util

from tests.tuning.study_samples import SPACE, header, hp, study, trial
from tfrec_meta.tuning.display.hparams_log import log_trial, write_hparams
from tfrec_meta.tuning.studies.trial_records import default_values

DEFAULT = default_values(SPACE)


def read(run):
    """Returns scalars as {tag: [(step, value)]}, and the data of the HParams plugin by tag."""
    (path,) = run.glob("*tfevents*")
    scalars, plugin = {}, {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == metadata.PLUGIN_NAME:
                plugin[value.tag] = value.metadata.plugin_data.content
            else:
                found = tensor_util.make_ndarray(value.tensor).item()
                scalars.setdefault(value.tag, []).append((event.step, found))
    return scalars, plugin


def started(run):
    return metadata.parse_session_start_info_plugin_data(
        read(run)[1][metadata.SESSION_START_INFO_TAG]
    )


def ended(run):
    return metadata.parse_session_end_info_plugin_data(read(run)[1][metadata.SESSION_END_INFO_TAG])


def experiment(folder):
    return metadata.parse_experiment_plugin_data(read(folder / "space")[1][metadata.EXPERIMENT_TAG])


def plain(value):
    return getattr(value, value.WhichOneof("kind"))


def files(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(Path(folder).rglob("*"))}


def test_a_trial_is_a_run_with_its_values_objective_and_curve(tmp_path):
    values = {**DEFAULT, "two_tower/hidden_layer": True, "ials/iterations": 9}
    record = trial(7, values, 0.25, curve=[0.125, 0.25, 0.1875], budget=3, seconds=12.5)
    run = log_trial(tmp_path, header(), record)
    assert run == tmp_path / "trial-0007"
    scalars, _ = read(run)
    assert scalars == {
        "curve/val_ndcg@10": [(1, 0.125), (2, 0.25), (3, 0.1875)],
        "val_ndcg@10": [(3, 0.25)],
        "seconds": [(0, 12.5)],
    }
    info = started(run)
    assert info.group_name == "0007"
    assert {name: plain(value) for name, value in info.hparams.items()} == {
        name: value
        for name, value in values.items()
        if name != "ials/iterations"  # inactive
    }
    # It ended at 04:07 on 26 November 2026, 12.5 s after its start.
    assert ended(run).end_time_secs == 1795666020.0
    assert info.start_time_secs == 1795666007.5
    assert ended(run).status == api_pb2.STATUS_SUCCESS


def test_a_failed_trial_has_no_value_and_the_status_failure(tmp_path):
    run = log_trial(tmp_path, header(), trial(0, DEFAULT, None, curve=[0.5, math.nan]))
    scalars, _ = read(run)
    assert scalars == {"curve/val_ndcg@10": [(1, 0.5)], "seconds": [(0, 12.5)]}
    assert ended(run).status == api_pb2.STATUS_FAILURE


def test_the_experiment_has_domains_and_the_objective(tmp_path):
    write_hparams(tmp_path, header(), [])
    found = experiment(tmp_path)
    infos = {info.name: info for info in found.hparam_infos}
    assert list(infos) == [entry["config"]["name"] for entry in SPACE]
    assert [metric.name.tag for metric in found.metric_infos] == ["val_ndcg@10", "seconds"]

    def discrete(name):
        return list(infos[name].domain_discrete)

    def interval(name):
        return infos[name].domain_interval.min_value, infos[name].domain_interval.max_value

    assert discrete("family") == ["ials", "two_tower"]
    assert discrete("two_tower/embedding_dim") == [16, 32, 64, 128]
    assert discrete("two_tower/hidden_layer") == [False, True]
    assert discrete("two_tower/training/rows") == ["windows"]
    assert discrete("two_tower/label_smoothing") == pytest.approx(
        [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    )
    assert interval("two_tower/training/learning_rate") == (5e-4, 5e-2)
    assert interval("ials/iterations") == (5, 30)
    assert infos["two_tower/training/learning_rate"].display_name == "learning_rate"
    assert infos["family"].type == api_pb2.DATA_TYPE_STRING
    assert infos["two_tower/hidden_layer"].type == api_pb2.DATA_TYPE_BOOL


def test_short_ranges_with_steps_are_lists(tmp_path):
    space = [
        hp("Int", "by_two", min_value=2, max_value=32, step=2, sampling="log"),
        hp("Int", "by_ten", min_value=10, max_value=35, step=10),
        hp("Float", "fine", min_value=0.0, max_value=1.0, step=1e-6),
        hp("Choice", "either", values=[1, 0.5]),
        hp("Choice", "mixed", values=["a", 1]),
    ]
    write_hparams(tmp_path, header(space), [])
    infos = {info.name: info for info in experiment(tmp_path).hparam_infos}
    assert list(infos["by_two"].domain_discrete) == [2, 4, 8, 16, 32]
    assert list(infos["by_ten"].domain_discrete) == [10, 20, 30]
    assert infos["fine"].domain_interval.max_value == 1.0
    assert list(infos["either"].domain_discrete) == [0.5, 1.0]
    assert infos["mixed"].WhichOneof("domain") is None


def test_a_study_is_written_once(tmp_path):
    head, trials = study(6)
    assert write_hparams(tmp_path / "logs", head, trials) == tmp_path / "logs"
    before = files(tmp_path)
    assert len(list((tmp_path / "logs").iterdir())) == 7  # six trials, and the space
    for record in trials:
        log_trial(tmp_path / "logs", head, record)
    write_hparams(tmp_path / "logs", head, trials)
    assert files(tmp_path) == before


def test_a_changed_trial_is_written_again(tmp_path):
    log_trial(tmp_path, header(), trial(0, DEFAULT, None))
    run = log_trial(tmp_path, header(), trial(0, DEFAULT, 0.25, budget=8))
    assert read(run)[0]["val_ndcg@10"] == [(8, 0.25)]
    assert len(list(run.glob("*tfevents*"))) == 1


@pytest.mark.parametrize("value", [None, [1, 2], {"a": 1}])
def test_a_value_of_an_unsupported_type_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"Trial 0000 has family=.*Use str, float, int or bool"):
        log_trial(tmp_path, header(), trial(0, {"family": value}, 0.3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["..", "../../up", "/etc/x", "a b\n", "."])
def test_no_trial_id_leaves_the_folder(tmp_path, name):
    run = log_trial(tmp_path / "logs", header(), trial(0, DEFAULT, 0.3, trial_id=name))
    assert run.parent == tmp_path / "logs"
    assert run.resolve().parent == (tmp_path / "logs").resolve()
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_failed_write_leaves_no_partial_run(tmp_path, monkeypatch):
    log_trial(tmp_path, header(), trial(0, DEFAULT, 0.25))
    before = files(tmp_path)

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr("tfrec_meta.tuning.display.hparams_log._Writer.scalar", full)
    with pytest.raises(OSError, match="no space left"):
        log_trial(tmp_path, header(), trial(0, DEFAULT, 0.3))
    monkeypatch.undo()
    assert {path.name for path in before} == {path.name for path in files(tmp_path)}
    assert read(tmp_path / "trial-0000")[0]["val_ndcg@10"] == [(8, 0.25)]


def test_tensorboard_lists_the_trials(tmp_path):
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import backend_context, list_session_groups

    head, trials = study(6)
    write_hparams(tmp_path, head, trials)
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    query = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_SUCCESS],
        col_params=[api_pb2.ColParams(metric=api_pb2.MetricName(tag="val_ndcg@10"))],
    )
    request = RequestContext()
    handler = list_session_groups.Handler(request, context, "", query)
    found = {group.name: group.metric_values[0].value for group in handler.run().session_groups}
    assert found == pytest.approx(
        {t["trial_id"]: t["value"] for t in trials if t["value"] is not None}, rel=1e-5
    )
