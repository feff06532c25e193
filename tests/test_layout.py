"""The layout: who may import whom, what importing costs, and what the packages contain."""

import ast
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tfrec_meta.workflows.configs.recipes import RECIPES

ROOT = Path(__file__).parents[1]
SOURCES = ("tfrec_meta", "pipeline", "serving", "tests", "benchmarks", "examples")
MOST_MODULES = 14  # per folder; the two below hold one file per command or family
LARGE_FOLDERS = ("tfrec_meta.commands", "tfrec_meta.models.families")

# Part -> the parts that it may import besides itself, the root `tfrec_meta`, and LEAVES. Low layers
# never import high ones, and parts that stand next to one another do not import each other.
LEAVES = {"keras", "checks", "errors", "extras"}
BELOW_MODELS = {"io", "data", "features", "content"}
BELOW_TRAINING = BELOW_MODELS | {"models", "evaluation"}
BELOW_WORKFLOWS = BELOW_TRAINING | {"training"}
ON_TOP = {"tuning", "distillation", "metalearning", "indexes", "reranking", "export", "reports"}
ALLOWED = {
    **{leaf: set() for leaf in LEAVES},
    "io": set(),
    "data": {"io"},
    "features": {"io", "data"},
    "content": {"io", "data", "features"},
    "evaluation": {"io"},
    "models": {"io", "data", "features", "evaluation"},
    "training": BELOW_TRAINING,
    "strategy": BELOW_WORKFLOWS,
    "tuning": BELOW_WORKFLOWS,
    "distillation": BELOW_WORKFLOWS,
    "metalearning": BELOW_WORKFLOWS,
    "indexes": BELOW_WORKFLOWS,
    "reranking": BELOW_WORKFLOWS,
    "export": BELOW_WORKFLOWS | {"indexes", "reranking"},
    "reports": {"io", "evaluation", "tuning", "distillation", "metalearning"},
    "workflows": BELOW_WORKFLOWS | ON_TOP | {"strategy"},
    "commands": BELOW_WORKFLOWS | ON_TOP | {"strategy", "workflows", "serving"},
    "serving": {
        "export.published",
        "export.signatures",
        "io.damage",
        "io.files",
        "io.manifests",
        "io.stores",
    },
    "pipeline": BELOW_WORKFLOWS | ON_TOP | {"strategy", "workflows", "serving"},
}
IMPORT_THE_PIPELINE = ("pipeline", "tests", "examples", "benchmarks")
IMPORT_REPORTS = ("reports", "workflows", "commands", "pipeline")
NO_TENSORFLOW = ("checks", "errors", "io", "data", "evaluation", "reports")
TENSORFLOW = {"tensorflow", "tf_keras", "keras", "keras_tuner", "tensorflow_recommenders"}


def python_files() -> list[Path]:
    # `rglob` does not follow the two links in the package.
    return sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ("pipeline", "serving"):
        parts = ("tfrec_meta", *parts)
    return ".".join(part for part in parts if part != "__init__")


def part_of(module: str) -> str:
    """`tfrec_meta.models.base.contract` -> "models"; the root is ""."""
    return (module.split(".") + [""])[1]


@functools.cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in python_files()}


@functools.cache
def imports(path: Path) -> list[str]:
    """Every module that a file imports, wherever the import stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the whole module"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append(inner if inner in modules() else str(node.module))
    return found


def imports_of_ours() -> Iterator[tuple[str, str]]:
    """(importer, imported) of all modules of the three packages."""
    for importer, path in modules().items():
        if importer.startswith("tfrec_meta"):
            for module in imports(path):
                if module.startswith("tfrec_meta"):
                    yield importer, module


def test_parts_import_only_what_lies_below_them():
    wrong = []
    for importer, imported in imports_of_ours():
        part, other = part_of(importer), part_of(imported)
        if part == "":
            continue  # the root names its public members by text, and imports `keras` only
        allowed = ALLOWED.get(part)
        assert allowed is not None, f"{importer}: add {part} to ALLOWED"
        inner = imported.removeprefix("tfrec_meta.")
        if other not in ("", part, *LEAVES, *allowed) and inner not in allowed:
            wrong.append(f"{importer} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_the_root_imports_only_what_imports_nothing():
    assert {imported for importer, imported in imports_of_ours() if part_of(importer) == ""} <= {
        "tfrec_meta.extras",
        "tfrec_meta.keras",
    } | type_checking_imports(ROOT / "tfrec_meta" / "__init__.py")


def type_checking_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    ]
    found = set()
    for block in blocks:
        for node in ast.walk(block):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in modules() else str(node.module))
    return found


def test_no_module_imports_itself_through_others():
    """No circles of imports, also not within a folder. The lazy root counts as no import."""
    arrows: dict[str, set[str]] = {}
    for importer, imported in imports_of_ours():
        if importer != "tfrec_meta" and imported not in ("tfrec_meta", importer):
            arrows.setdefault(importer, set()).add(imported)
    done: set[str] = set()
    circles = []

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            circles.append(" -> ".join([*trail[trail.index(module) :], module]))
            return
        if module not in done:
            for other in sorted(arrows.get(module, ())):
                visit(other, [*trail, module])
            done.add(module)

    for module in sorted(arrows):
        visit(module, [])
    assert not circles, "\n".join(circles)


def test_folders_hold_few_modules():
    counts: dict[str, int] = {}
    for module, path in modules().items():
        if module.startswith("tfrec_meta") and path.name != "__init__.py":
            folder = module.rpartition(".")[0]
            counts[folder] = counts.get(folder, 0) + 1
    large = {
        folder: count
        for folder, count in counts.items()
        if count > MOST_MODULES and folder not in LARGE_FOLDERS
    }
    assert not large


def test_every_package_describes_itself():
    silent = [
        module
        for module, path in modules().items()
        if module.startswith("tfrec_meta") and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_nothing_imports_the_pipeline_the_tests_or_the_benchmarks():
    wrong = []
    for path in python_files():
        home = path.relative_to(ROOT).parts[0]
        for module in imports(path):
            top = module.split(".")[0]
            if (top in ("tests", "benchmarks") and home not in (top, "tests")) or (
                module.startswith("tfrec_meta.pipeline") and home not in IMPORT_THE_PIPELINE
            ):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_only_workflows_commands_and_the_pipeline_import_reports():
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in imports_of_ours()
        if part_of(imported) == "reports" and part_of(importer) not in IMPORT_REPORTS
    ]
    assert not wrong


def test_pipeline_and_serving_are_imported_by_their_whole_names():
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in python_files()
        for module in imports(path)
        if module.split(".")[0] in ("pipeline", "serving")
    ]
    assert not wrong, "a bare name loads a second copy of the package"


def test_low_layers_and_signatures_import_no_tensorflow():
    wrong = [
        f"{module} imports {imported}"
        for module, path in modules().items()
        if module.startswith("tfrec_meta.")
        and (part_of(module) in NO_TENSORFLOW or module == "tfrec_meta.export.signatures")
        for imported in imports(path)
        if imported.split(".")[0] in TENSORFLOW or imported == "tfrec_meta.keras"
    ]
    assert not wrong


def test_only_keras_py_chooses_keras():
    """Other modules neither import Keras before the package has chosen it, nor set the switch."""
    wrong = [
        module
        for module, path in modules().items()
        if module.startswith("tfrec_meta") and module not in ("tfrec_meta", "tfrec_meta.keras")
        for imported in imports(path)
        if imported.split(".")[0] in ("keras", "tf_keras")
    ]
    assert not wrong, "use `from tfrec_meta.keras import tf_keras`"


@pytest.mark.parametrize(
    "name, target",
    [("pipeline", "pipeline"), ("serving", "serving"), ("recipes", "examples/recipes")],
)
def test_folders_are_linked_into_the_package(name, target):
    link = ROOT / "tfrec_meta" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", target)
    assert (ROOT / target).is_dir()


@pytest.mark.parametrize(
    "module, heaviest",
    [
        ("tfrec_meta", set()),
        (
            "tfrec_meta.serving.client",
            {"cython_runtime", "google", "grpc", "grpc_tools", "numpy", "typing_extensions"},
        ),
    ],
)
def test_importing_loads_few_other_packages_and_no_tensorflow(module, heaviest):
    # What an import takes is in what it loads: a count of seconds says more of the machine.
    code = f"""
import sys
before = set(sys.modules)
import {module}
loaded = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(*sorted(loaded - set(sys.stdlib_module_names)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name for name in done.stdout.split() if not name.startswith("_")}
    assert loaded <= {"tfrec_meta", *heaviest}


def requirement_name(text: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", text.strip(), maxsplit=1)[0].lower().replace("_", "-")


def test_the_lock_holds_every_requirement_of_setup_py_with_hashes():
    from packaging.requirements import Requirement  # with TensorFlow's requirements

    locked: dict[str, list[str]] = {}
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
    for block in blocks:
        match = re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", block)
        if match:
            assert "--hash=sha256:" in block, f"{match.group(0)} has no hash"
            locked.setdefault(requirement_name(match.group(1)), []).append(match.group(2))
    wanted = [Requirement(text) for text in distribution("tfrec-meta").requires or ()]
    assert len(wanted) > 20
    for requirement in wanted:
        versions = locked.get(requirement_name(requirement.name))
        assert versions, f"{requirement.name} is not in requirements.lock; run `make lock`"
        for version in versions:
            assert requirement.specifier.contains(version), f"{requirement}: {version} is locked"


@pytest.mark.parametrize("lock", ["requirements.lock", "bootstrap.lock", "airflow.lock"])
def test_locks_name_no_index(lock):
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(r"https?://|--index-url|--find-links", text)


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> tuple[set[str], set[str]]:
    """The names in a wheel and an sdist, built from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("package") / "checkout"
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "out", "."]
    done = subprocess.run(
        [*command, "--sdist", "--wheel"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = (copy / "out").glob("*.whl")
    (sdist,) = (copy / "out").glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as files:
        inner = {name.partition("/")[2] for name in files.getnames()}
        return set(archive.namelist()), inner


def test_packages_carry_the_linked_folders_and_their_data(packages):
    for names in packages:
        assert "tfrec_meta/pipeline/__init__.py" in names
        assert "tfrec_meta/serving/client/client.py" in names
        assert "tfrec_meta/serving/protocol/tf_serving.binpb" in names
        assert "tfrec_meta/export/signatures.py" in names
        for recipe in RECIPES:
            assert f"tfrec_meta/recipes/{recipe}/config.yaml" in names
            assert f"tfrec_meta/recipes/{recipe}/README.md" in names
    wheel, sdist = packages
    assert not {name.split("/")[0] for name in wheel} & {"pipeline", "serving", "tests"}
    assert {"setup.py", "pyproject.toml", "LICENSE", "requirements.lock"} <= sdist


def test_every_module_of_ours_is_in_the_wheel(packages):
    wheel, _ = packages
    ours = {
        module_of(path).replace(".", "/")
        for path in python_files()
        if module_of(path).startswith("tfrec_meta")
    }
    carried = {name.removesuffix(".py").removesuffix("/__init__") for name in wheel}
    assert ours <= carried


def test_the_bare_names_are_not_importable_from_elsewhere(tmp_path):
    code = (
        "import importlib.util as u; print([n for n in ('pipeline', 'serving') if u.find_spec(n)])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


def test_the_command_is_installed():
    (command,) = distribution("tfrec-meta").entry_points.select(group="console_scripts")
    assert (command.name, command.value) == ("tfrec-meta", "tfrec_meta.commands.main:main")
    assert importlib.util.find_spec("tfrec_meta.commands.main")


def test_a_missing_dependency_says_which_extra_brings_it():
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"  # as if it were not installed
        "import tfrec_meta\n"
        "try:\n    tfrec_meta.movielens\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "`tfrec_meta.movielens` needs pyarrow" in done.stdout
    assert "tfrec-meta[core]" in done.stdout
