import json

import pytest

from benchmarks import arguments
from tfrec_meta.data import synthetic


def test_defaults_are_movielens_and_a_fixed_seed():
    parsed = arguments.parse("What it measures.", [])
    assert (parsed.data, parsed.seed, parsed.quick) == ("100k", 42, False)


def test_a_benchmark_may_have_switches_of_its_own():
    assert not arguments.parse("", [], {"write": "writes"}).write
    assert arguments.parse("", ["--write"], {"write": "writes"}).write


def test_the_last_line_is_one_json_object(capsys):
    parsed = arguments.parse("", ["--data", "1m", "--seed", "7", "--quick"])
    arguments.finish({"speedup": 31.5}, parsed)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["speedup"] == 31.5
    assert (result["data"], result["seed"], result["quick"]) == ("1m", 7, True)
    assert result["environment"]["cores"] >= 1


def test_data_is_read_from_a_written_folder_or_a_file(tmp_path):
    data = synthetic(20, 30, 100)
    folder = data.write(tmp_path / "written")
    assert len(arguments.load(str(folder))) == 100
    table = tmp_path / "events.csv"
    data.to_pandas().to_csv(table, index=False)
    assert len(arguments.load(str(table))) == 100


def test_a_source_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="`--data`=nowhere"):
        arguments.load("nowhere")
