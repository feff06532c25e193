"""Settings of files are refused for data that has columns and tables of its own."""

import pytest

import tfrec_meta as tm
from tfrec_meta.errors import ParameterError
from tfrec_meta.workflows.run_settings import complete_settings, read_data


@pytest.mark.parametrize("source", ["movielens-100k", "synthetic-9x9x40", "folder"])
@pytest.mark.parametrize(
    ("name", "value"), [("items", "i.csv"), ("users", "u.csv"), ("columns", {"item_id": "x"})]
)
def test_settings_without_effect_are_refused(source, name, value, tmp_path):
    if source == "folder":
        source = str(tmp_path / "written")
        tm.synthetic(9, 9, 30).write(source)
    settings = complete_settings({"data": {"source": [source], name: value}})
    with pytest.raises(ParameterError, match=f"`{name}` has no effect"):
        read_data(settings["data"], 1)
