"""The examples of the README, of the documentation and of docstrings run as they are.

Pages in `ELSEWHERE` have tests of their own, which also check what is printed.
"""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import tfrec_meta

ROOT = Path(__file__).parents[1]
ELSEWHERE = ("data.md", "evaluation.md", "serving.md", "storage.md")
INCLUDED = ("changes.md", "contributing.md", "results.md", "settings.md")  # made from other files
# More than ten seconds each on two cores; the quick tests run the other pages.
SLOW = (
    "README.md",
    "command.md",
    "distillation.md",
    "export.md",
    "metalearning.md",
    "models.md",
    "training.md",
    "tuning.md",
)
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in INCLUDED),
    *sorted((ROOT / "docs" / "how_to").glob("*.md")),
]
TEXTS = [*PAGES, *(ROOT / name for name in ("BUILD.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
PACKAGES = (
    "data",
    "distillation",
    "evaluation",
    "features",
    "metalearning",
    "models",
    "pipeline",
    "reports",
    "serving",
    "training",
    "tuning",
)


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page.name in SLOW else ())
        for page in PAGES
        if page.name not in ELSEWHERE
    ],
    ids=lambda page: page.name,
)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(page)
    assert blocks, f"{page.name} has no example"
    exec(compile("\n".join(blocks), str(page), "exec"), {"__name__": page.stem})


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose)
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def public_objects() -> dict[str, object]:
    """Every public object once, by its name in the package that offers it."""
    found = {f"tfrec_meta.{name}": getattr(tfrec_meta, name) for name in tfrec_meta.__all__}
    for package in PACKAGES:
        module = importlib.import_module(f"tfrec_meta.{package}")
        for name in getattr(module, "__all__", ()):
            found.setdefault(f"tfrec_meta.{package}.{name}", getattr(module, name))
    return {name: value for name, value in found.items() if callable(value)}


def test_the_examples_of_public_docstrings_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    done = set()
    for name, value in public_objects().items():
        if id(value) not in done:
            done.add(id(value))
            for test in finder.find(value, name):
                runner.run(test)
    assert runner.tries > 20
    assert not runner.failures


def test_every_public_function_and_class_of_the_root_is_in_the_api_reference():
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    documented = set(
        re.findall(r"auto(?:function|class):: tfrec_meta\.(?:[a-z_.]*\.)?(\w+)", pages)
    )
    for module in re.findall(r"automodule:: (tfrec_meta\.[a-z_.]+)", pages):
        loaded = importlib.import_module(module)
        documented |= set(getattr(loaded, "__all__", None) or vars(loaded))
    assert set(tfrec_meta.__all__) <= documented
