"""`tfrec-meta recommend`: titles, histories and warnings."""

import os
import subprocess
import sys
from pathlib import Path

from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.serving import LocalServer
from tfrec_meta.workflows.runs import Run


def test_recommendations_have_titles(run, base, capsys):
    with LocalServer(base) as server:
        request = ["recommend", "--server", server.address]
        answer = run_json(
            capsys, *request, "--user", "u1", "--history", "i3,i7", "-k", "3", "--titles", str(base)
        )
        assert answer["history"] == ["i3", "i7"]
        found = answer["recommendations"]
        assert len(found) == 3
        assert not {"i3", "i7"} & {one["item_id"] for one in found}
        assert all(one["title"] for one in found)

        of_the_run = run_json(capsys, *request, "--user", "u1", "--run", str(run))
        assert of_the_run["history"] == Run.open(run).history("u1")
        assert all(one["title"] for one in of_the_run["recommendations"])

        assert not of_the_run["warnings"]

        assert cli.main([*request, "--user", "nobody", "--run", str(run), "-k", "2"]) == 0
        shown = capsys.readouterr()
        expected = f"warning: {run} has no user 'nobody'; these are the popular items.\n"
        assert shown.err == expected
        assert shown.out.count("\n") == 2

        answer = run_json(capsys, *request, "--run", str(run))
        assert (answer["model"], answer["history"], answer["warnings"]) == ("first", [], [])

        for place in (["--titles", str(base)], ["--run", str(run)]):
            answer = run_json(capsys, *request, "--history", "i3,x1,x2", *place)
            assert answer["warnings"] == [
                "--history has items that are not in the catalogue: 'x1', 'x2'."
            ]
        answer = run_json(capsys, *request, "--history", "x1", "--titles", str(base))
        assert answer["warnings"][0].endswith("'x1'; these are the popular items.")

        assert cli.main([*request, "--model", "books"]) == 1
        assert "'books'" in capsys.readouterr().err


def test_titles_are_read_without_pandas(base):
    # pandas takes as long to import as all other imports of `recommend` together.
    code = (
        "import sys\n"
        "from tfrec_meta.serving import Catalogue\n"
        f"assert len(Catalogue.read({str(base)!r})) == 30\n"
        "assert not {'pandas', 'tensorflow'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
