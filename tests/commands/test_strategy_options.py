"""The options of the strategy, as settings of a run."""

import json

import pytest

from tfrec_meta.commands.strategy_options import StrategyOptions, read_strategy
from tfrec_meta.errors import ParameterError


def test_strategy_options_replace_values_of_the_strategy_file(tmp_path):
    path = tmp_path / "strategy.json"
    path.write_text(json.dumps({"family": "ease", "training": {"epochs": 3, "batch_size": 64}}))
    given = StrategyOptions(family="ials", epochs=5, seed=7, strategy=str(path))
    assert given.settings() == {
        "seed": 7,
        "strategy": {
            "family": "ials",
            "training": {"epochs": 5, "batch_size": 64, "seed": 7},
        },
    }
    assert StrategyOptions().settings() == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"familly": "ease"}'])
def test_a_file_that_is_not_a_strategy_is_refused(text, tmp_path):
    path = tmp_path / "strategy.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match=r"strategy\.json") as error:
        read_strategy(path)
    assert error.value.parameter == "strategy"
