"""Installations with one extra only: what needs more says which extra has it.

Each test is one process in which the packages outside of the extra cannot be imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Refuses the packages of all distributions that the extra does not require, also indirectly.
BLOCK = """
import io, contextlib, re, sys
from importlib import metadata
from packaging.requirements import Requirement

def requirements(name, extras):
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for line in map(Requirement, lines):
        if line.marker is None or any(line.marker.evaluate({"extra": e}) for e in extras or [""]):
            yield line.name, line.extras

def closure(extra):
    todo, found = [("tfrec-meta", {extra})], set()
    while todo:
        name, extras = todo.pop()
        name = re.sub("[-_.]+", "-", name).lower()
        if (name, *sorted(extras)) not in found:
            found.add((name, *sorted(extras)))
            todo += requirements(name, extras)
    return {name for name, *_ in found}

kept = closure(EXTRA)
allowed = {"tfrec_meta", "packaging"}
for package, owners in metadata.packages_distributions().items():
    if any(re.sub("[-_.]+", "-", owner).lower() in kept for owner in owners):
        allowed.add(package)

class Partial:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        is_known = package in allowed or package in sys.stdlib_module_names
        is_known = is_known or package.startswith("_")  # parts of Python and of packages
        return self.finder.find_spec(name, path, target) if is_known else None

for name in [name for name in sys.modules if name.partition(".")[0] not in allowed]:
    if name.partition(".")[0] not in sys.stdlib_module_names:
        del sys.modules[name]
sys.meta_path[:] = map(Partial, sys.meta_path)

def error_of(function, *arguments):
    try:
        function(*arguments)
    except (ImportError, FileNotFoundError) as error:
        return str(error)
    return ""

def command(*words):
    from tfrec_meta.commands.main import main
    shown = io.StringIO()
    with contextlib.redirect_stderr(shown):
        status = main(list(words))
    assert status in (0, 1), shown.getvalue()
    return shown.getvalue().strip() or f"{words} ended with {status}"

def assert_needs(extra, *errors):
    for error in errors:
        assert error.rstrip(".").endswith(f"pip install 'tfrec-meta[{extra}]'"), repr(error)
"""


def run(extra: str, code: str, folder: Path) -> None:
    """Runs code in an installation with one extra only; "" has none."""
    done = subprocess.run(
        [sys.executable, "-c", f"EXTRA = {extra!r}\n{BLOCK}\n{code}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


NEED_CORE = """
import tfrec_meta as tm
from tfrec_meta.commands.summaries import GROUPS, SECTIONS
free = {"init", "doctor", "completion", "recommend", "adapt", *GROUPS}
words = {"tune": ["synthetic"], "distill": ["ease"], "serve": ["models/first"], "show": ["a"]}
words |= {"export": ["a.json"], "import": ["a.json"], "prune": ["a"], "check": ["a.csv"]}
words["compare"] = ["runs/a", "runs/b"]
for name in [name for names in SECTIONS.values() for name in names if name not in free]:
    assert_needs("core", command(name, *words.get(name, []) * (name != "export")))
assert_needs("core", command("init", "shop", "made-up", "--sample-data"))
assert command("init", "shop").endswith("ended with 0")
for group, names in GROUPS.items():
    for name in names:
        assert_needs("core", command(group, name, *words.get(name, [])))
errors = {name: error_of(getattr, tm, name) for name in tm.__all__}
assert_needs("core", *filter(None, errors.values()))
assert {name for name in errors if not errors[name]} <= {"ExportConfig", "Member", "export"}
assert_needs("core", error_of(tm.export, None, "models/a"))
from tfrec_meta import pipeline, serving
assert_needs("pipeline", error_of(getattr, pipeline, "PipelineConfig"))
assert_needs("core", error_of(lambda: serving.LocalServer("models/first").start()))
assert command("completion", "bash").endswith("ended with 0")
"""


def test_without_an_extra_every_command_and_function_says_what_it_needs(tmp_path):
    code = """
assert_needs("serving", command("recommend"), command("adapt", "--items", "a"))
assert_needs("serving", error_of(getattr, serving, "Client"))
"""
    run("", NEED_CORE + code, tmp_path)


def test_the_serving_extra_is_enough_for_the_client_only(tmp_path):
    extra_assets = tmp_path / "models" / "first" / "1" / "assets.extra"
    extra_assets.mkdir(parents=True)
    (extra_assets.parent / "saved_model.pb").touch()
    (extra_assets / "catalogue.parquet").touch()
    code = """
call = ["recommend", "--server", "127.0.0.1:1", "--timeout", "0.2", "--model", "a"]
assert "127.0.0.1:1" in command(*call)
assert_needs("core", command("recommend", "--run", "runs/first"))
assert_needs("core", command("recommend", "--titles", "models/first"))
assert serving.Client and serving.Catalogue
"""
    run("serving", NEED_CORE + code, tmp_path)


@pytest.mark.slow  # imports TensorFlow
def test_the_core_extra_is_enough_for_all_but_bert_and_the_pipeline(tmp_path):
    code = """
import pathlib
pathlib.Path("shop.yaml").write_text(
    "{name: shop, serving: served, data: {interactions: {path: c.csv}}}"
)
import tfrec_meta as tm
for name in tm.__all__:
    getattr(tm, name)
from tfrec_meta import pipeline, serving
from tfrec_meta.pipeline.runners import local_runner
serving.LocalServer
config = pipeline.PipelineConfig.read("shop.yaml")
shown = io.StringIO()
with contextlib.redirect_stderr(shown):
    assert local_runner.main(["--config", "shop.yaml"]) == 1
assert_needs("pipeline", shown.getvalue().strip().removeprefix("error: "))
assert_needs("pipeline", error_of(local_runner.run, config))
data = tm.synthetic(20, 10, 100)
spec = tm.FeatureSpec(item=(tm.Text("title"),)).fit(data)
assert_needs("teacher", error_of(tm.text_teacher, data, spec))
for teacher in ("bert", "tuned_bert"):
    words = ["distill", teacher, "--run", teacher, "--data", "synthetic-20x10x100"]
    assert_needs("teacher", command(*words))
"""
    run("core", code, tmp_path)
