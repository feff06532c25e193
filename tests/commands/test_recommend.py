"""`tfrec-meta recommend`: titles, histories and warnings."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa

import tfrec_meta as tm
from tests.commands.calls import run_json
from tfrec_meta.commands import main as cli
from tfrec_meta.commands import options, recommendations
from tfrec_meta.commands.recommend import _unused_id
from tfrec_meta.serving import Catalogue, LocalServer, Recommendation
from tfrec_meta.workflows.runs import Run

ITEMS = tm.synthetic(60, 30, 600, seed=5).items
CATEGORY = dict(zip(ITEMS["item_id"].to_pylist(), ITEMS["category"].to_pylist(), strict=True))


def test_the_usual_model_is_the_only_exported_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.usual_model() == "first"
    for name, usual in (("shop", "shop"), ("news", "first")):
        (tmp_path / "models" / name).mkdir(parents=True)
        assert options.usual_model() == usual


def test_a_catalogue_without_titles_comes_with_the_way_to_them(monkeypatch, capsys):
    table = pa.table({"item_id": ["a"], "Bezeichnung": ["Tee"], "price": [1.5]})
    monkeypatch.setattr(Catalogue, "read", lambda folder: SimpleNamespace(table=table))
    assert recommendations.served_titles("models/shop", "shop") == {"a": "a"}
    assert "--title-column shows another column: Bezeichnung." in capsys.readouterr().err
    assert recommendations.served_titles("models/shop", "shop", "Bezeichnung") == {"a": "Tee"}
    assert capsys.readouterr().err == ""


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
        assert of_the_run["history"] == Run.open(run).known_events.history("u1")
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

        answer = run_json(capsys, *request, "--exclude", "i3,x1", "--titles", str(base))
        assert answer["warnings"] == ["--exclude has items that are not in the catalogue: 'x1'."]

        (warning,) = run_json(capsys, *request, "--user", "nobody")["warnings"]
        assert warning.startswith("the user id 'nobody' has no effect: the answer is the same")
        assert "popular items" in warning
        (warning,) = run_json(capsys, *request, "--user", "x", "--history", "i3")["warnings"]
        assert warning == "the user id 'x' has no effect: the answer is the same without it."

        columns = ["--titles", str(base), "--title-column", "category"]
        titles = {one["title"] for one in run_json(capsys, *request, *columns)["recommendations"]}
        assert titles <= {str(one) for one in CATEGORY.values()}
        of_the_run = ["--run", str(run), "--title-column", "category"]
        found = run_json(capsys, *request, *of_the_run)["recommendations"]
        assert found[0]["title"] == str(CATEGORY[found[0]["item_id"]])

        assert cli.main([*request, "--filter", "category=a"]) == 1
        error = capsys.readouterr().err
        assert "--filter names 'category', but the model 'first' was exported without" in error
        assert "tfrec-meta export --filters category" in error

        assert cli.main([*request, "--model", "books"]) == 1
        assert "'books'" in capsys.readouterr().err


def test_a_user_id_that_changes_the_answer_is_not_warned_of():
    with_id = [Recommendation("i1", 0.9), Recommendation("i2", 0.5)]
    for without in (with_id[::-1], [Recommendation("i1", 0.9), Recommendation("i2", 0.4)]):
        assert _unused_id("u", with_id, without, has_history=True) == []
    assert _unused_id("u", [], [], has_history=True) == []
    (warning,) = _unused_id("u", with_id, [*with_id], has_history=False)
    assert "'u' has no effect" in warning


def test_filters_keep_the_items_that_have_one_of_the_values(run, tmp_path, capsys):
    base = tmp_path / "first"
    export = ["export", "--run", str(run), "--to", str(base), "--filters", "category"]
    assert cli.main(export) == 0
    some, others = sorted(set(CATEGORY.values()))[:2]
    with LocalServer(base) as server:
        request = ["recommend", "--server", server.address, "-k", "30"]
        found = {}
        for values in (f"{some}", f"{some},{others}"):
            answer = run_json(capsys, *request, "--filter", f"category={values}")
            found[values] = {one["item_id"] for one in answer["recommendations"]}
            kept = {item for item, value in CATEGORY.items() if str(value) in values.split(",")}
            assert found[values] == kept
        both = ["--filter", f"category={some}", f"category={others}"]
        answer = run_json(capsys, *request, *both)
        assert {one["item_id"] for one in answer["recommendations"]} == found[f"{some},{others}"]
        assert cli.main([*request, "--filter", "category=nowhere"]) == 0
        nothing = "no recommendations: no item of the catalogue that passes --filter is left.\n"
        assert capsys.readouterr().out == nothing


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
