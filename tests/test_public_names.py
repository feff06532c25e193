"""The public surface: what the documentation imports is public, typed and documented."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import tfrec_meta

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def sources() -> dict[str, str]:
    """Returns the Python code of each page and each example."""
    found = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES}
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        found[page.relative_to(ROOT).as_posix()] = "\n".join(blocks)
    return found


def imported_names() -> set[tuple[str, str]]:
    """Returns (module, name) for each import from this package, and each use of `tm.<name>`."""
    found = set()
    for code in sources().values():
        tree = ast.parse(code)
        aliases = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "tfrec_meta"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tfrec_meta"):
                found |= {(str(node.module), alias.name) for alias in node.names}
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                # A page imports the package once and uses it in all blocks.
                and node.value.id in aliases | {"tm"}
            ):
                found.add(("tfrec_meta", node.attr))
    return {(module, name) for module, name in found if not is_module(f"{module}.{name}")}


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or package, and not a public function of that name."""
    if name.rpartition(".")[2] in tfrec_meta.__all__:
        return False
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


IMPORTED = sorted(imported_names())


@pytest.mark.parametrize(("module", "name"), IMPORTED, ids=[".".join(each) for each in IMPORTED])
def test_a_name_that_the_documentation_imports_is_public_typed_and_documented(module, name):
    package = importlib.import_module(module)
    if name == "__version__":
        return
    assert name in getattr(package, "__all__", ()), f"add {name} to `__all__` of {module}"
    value = getattr(package, name)
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return  # a constant, or a module
    assert inspect.getdoc(value), f"{module}.{name} has no docstring"
    function = value.__init__ if inspect.isclass(value) else value
    if inspect.isclass(value) and "__init__" not in vars(value):
        return  # an enum, or a class without arguments
    parameters = list(inspect.signature(function).parameters.values())
    untyped = [
        parameter.name
        for parameter in parameters[inspect.isclass(value) :]
        if parameter.annotation is inspect.Parameter.empty
    ]
    assert not untyped, f"{module}.{name} lacks types of {untyped}"
    if inspect.isfunction(value):
        assert inspect.signature(value).return_annotation is not inspect.Signature.empty


def test_every_public_name_of_the_package_is_in_the_documentation():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES) + str(sources())
    unused = [name for name in tfrec_meta.__all__ if not re.search(rf"\b{name}\b", text)]
    assert not unused


def test_type_checkers_see_the_public_names_in_the_modules_that_define_them():
    tree = ast.parse(Path(str(tfrec_meta.__file__)).read_text(encoding="utf-8"))
    typed = {
        alias.name: str(node.module).removeprefix("tfrec_meta.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tfrec_meta.")
        for alias in node.names
        if alias.name not in ("public_name", "use_keras2")
    }
    assert typed == tfrec_meta._MODULES
    assert tfrec_meta.__all__ == sorted(typed)


def test_public_names_can_be_listed_and_unknown_ones_are_refused():
    assert set(tfrec_meta.__all__) < set(dir(tfrec_meta))
    with pytest.raises(AttributeError, match=r"no public name 'trian'; it has .*train"):
        _ = tfrec_meta.trian
