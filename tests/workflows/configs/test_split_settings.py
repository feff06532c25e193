"""Settings of a split: default shares, and the protocol that fits the data."""

import json
import logging

import pytest

from tfrec_meta import data as tfd
from tfrec_meta.commands import data_options
from tfrec_meta.errors import ParameterError
from tfrec_meta.workflows.configs.split_settings import (
    PROTOCOLS,
    fill_shares,
    resolved_split,
    split_data,
)
from tfrec_meta.workflows.run_settings import complete_settings
from tfrec_meta.workflows.runs import Run

UNNAMED = {"protocol": None, "train": None, "validation": None}


def events(times):
    """Events at these times; None: ten events without times."""
    count = 10 if times is None else len(times)
    users, items = ([f"{kind}{n % 7}" for n in range(count)] for kind in "ui")
    return tfd.Interactions.from_arrays(users, items, times, name="log")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_default_shares(protocol):
    data = tfd.synthetic(40, 20, 300, seed=3)
    split = split_data(data, {"protocol": protocol, "train": None, "validation": None}, seed=1)
    assert len(split.train_index) > len(split.test_index) > 0


def test_given_shares_are_used():
    data = tfd.synthetic(40, 20, 300, seed=3)
    split = split_data(data, {"protocol": "user", "train": 0.5, "validation": 0.25}, seed=1)
    expected = tfd.split_by_user(data, 0.5, 0.25, seed=1)
    assert (split.test_index == expected.test_index).all()
    with pytest.raises(ValueError, match="has no shares"):
        split_data(data, {"protocol": "leave-last-out", "train": 0.5, "validation": None}, seed=1)


def test_events_with_times_are_split_by_time_and_the_log_says_so(caplog):
    data = events(list(range(100)))
    with caplog.at_level(logging.WARNING, "tfrec_meta.workflows"):
        split = split_data(data, UNNAMED, seed=1)
    assert [split.train_index[-1], split.validation_index[-1], split.test_index[-1]] == [79, 89, 99]
    assert [record.message for record in caplog.records] == [
        "log: events have times, so the split is by time: train on the past, test on the future. "
        "`split.protocol` (--split) names another one."
    ]
    assert resolved_split(UNNAMED, data) == {"protocol": "time", "train": 0.8, "validation": 0.1}


@pytest.mark.parametrize("times", [None, [5] * 20, [5] * 19 + [6]])
def test_events_without_an_order_in_time_are_split_by_item(times, caplog):
    split = split_data(events(times), UNNAMED, seed=1)
    assert split.protocol == "item"
    assert "no times that differ enough, so the split is random, by item" in caplog.text


def test_a_named_protocol_is_used_without_a_word(caplog):
    split = split_data(events(list(range(100))), {**UNNAMED, "protocol": "user"}, seed=1)
    assert split.protocol == "user"
    assert not caplog.records


def test_given_shares_are_those_of_the_protocol_that_fits():
    data = events(list(range(100)))
    wanted = {"protocol": "time", "train": 0.9, "validation": 0.05}  # the rest is shared equally
    assert resolved_split({**UNNAMED, "train": 0.9}, data) == wanted
    assert resolved_split({**UNNAMED, "train": 0.6}, data)["validation"] == 0.1
    with pytest.raises(ParameterError, match=r"`train`=0\.8 and `validation`=0\.2 leave no test"):
        resolved_split({**UNNAMED, "validation": 0.2}, data)


@pytest.mark.parametrize(
    "wrong", [{"train": 0}, {"validation": -1}, {"train": 0.6, "validation": 0.4}]
)
def test_impossible_shares_are_refused_before_the_data_is_read(wrong):
    with pytest.raises(ParameterError, match=r"`train`|`validation`"):
        complete_settings({"split": wrong})
    assert fill_shares(UNNAMED) == UNNAMED


def test_a_run_stores_the_protocol_and_keeps_it(tmp_path):
    log = tmp_path / "log.csv"
    rows = [f"u{n % 7},i{n % 5},{1_700_000_000 + n}" for n in range(100)]
    log.write_text("\n".join(["user_id,item_id,time", *rows]) + "\n")
    given = {"data": {"source": [str(log)]}, "strategy": {"family": "popularity"}}
    Run.begin(tmp_path / "run", given)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["split"] == {"protocol": "time", "train": 0.8, "validation": 0.1}
    # The run keeps its split, whatever the data is later.
    log.write_text("user_id,item_id\n" + "\n".join(row.rpartition(",")[0] for row in rows) + "\n")
    with pytest.raises(ValueError, match="has none"):
        _ = Run.begin(tmp_path / "run", given).split
    assert Run.begin(tmp_path / "other", given).settings["split"]["protocol"] == "item"


def test_the_command_offers_the_protocols_of_the_settings():
    assert set(data_options.PROTOCOLS) == set(PROTOCOLS)
