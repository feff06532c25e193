"""Who may import whom, what importing costs, and that packages carry what belongs in them."""

import ast
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

ROOT = Path(__file__).parents[1]
SOURCES = ("tfrec_meta", "tests", "benchmarks", "examples")

# Part -> the parts of ours that it may import besides itself and `keras`, which every entry point
# goes through. Low layers never import high ones, and what stands beside one another does not
# import each other.
BELOW_MODELS = {"data", "features"}
BELOW_TRAINING = BELOW_MODELS | {"models", "evaluation"}
ON_TOP = BELOW_TRAINING | {"training"}
ALLOWED = {
    "keras": set(),
    "data": set(),
    "evaluation": set(),
    "features": {"data"},
    # A family may be adapted by a learner: these two know no family.
    "models": BELOW_MODELS | {"metalearning.learners", "metalearning.networks"},
    "optimizers": set(),
    "distribution": set(),
    "training": BELOW_TRAINING | {"distribution", "optimizers"},
    "tuning": ON_TOP,
    "distillation": ON_TOP,
    "metalearning": ON_TOP | {"metalearning.learners", "metalearning.networks"},
    "metalearning.learners": {"metalearning.networks"},
    "metalearning.networks": set(),
    "export": ON_TOP,
    "export.signatures": set(),
    "serving": {"export.signatures"},
    "doctor": {"data"},
    "api": ON_TOP | {"distribution", "distillation", "metalearning", "export"},
    "strategy_search": ON_TOP | {"tuning", "distillation", "api"},
    "distilling": ON_TOP | {"distillation", "api"},
    "runs": ON_TOP | {"export", "api"},
    "run_options": {"runs"},
    "studies_command": {"tuning"},
    "tune_command": {"api", "strategy_search", "runs", "run_options"},
    "distill_command": {"api", "distilling", "runs", "run_options"},
    "cold_start_command": {"metalearning", "runs", "run_options"},
    "cli": ON_TOP
    | {"export", "export.signatures", "api", "runs", "doctor", "serving"}
    | {"run_options", "studies_command", "tune_command", "distill_command"}
    | {"cold_start_command"},
    "pipeline": ON_TOP
    | {"tuning", "export", "export.signatures", "api", "strategy_search", "serving"},
}
USERS_OF_THE_PIPELINE = ("pipeline", "tests", "examples", "benchmarks")
NO_TENSORFLOW = ("data", "evaluation", "export.signatures")
TENSORFLOW = {"tensorflow", "tf_keras", "keras", "keras_tuner", "tensorflow_recommenders"}
# `tfrec_meta.export` is both the public function and the package; calling it goes to the api.
EXCEPTIONS = {("tfrec_meta/export/__init__.py", "api")}


def python_files() -> list[Path]:
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*.py")]
    # rglob follows no links, and these two are links.
    files += [path for part in ("pipeline", "serving") for path in (ROOT / part).rglob("*.py")]
    return sorted(files)


def part_of(module: str) -> str:
    """`tfrec_meta.indexes.exact` -> "export"; the one module with rules of its own is itself."""
    below = module.removeprefix("tfrec_meta").lstrip(".")
    return below if below in ALLOWED else below.split(".")[0]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ("pipeline", "serving"):
        parts = ("tfrec_meta", *parts)
    return ".".join(part for part in parts if part != "__init__")


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the whole module"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else str(node.module)


def test_parts_import_only_what_lies_below_them():
    wrong = []
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        importer = part_of(module_of(path)) if module_of(path).startswith("tfrec_meta") else None
        for module in imports(path):
            if not module.startswith("tfrec_meta") or importer in (None, ""):
                continue
            imported = part_of(module)
            allowed = ALLOWED.get(importer)
            assert allowed is not None, f"{name}: say in ALLOWED what {importer} may import"
            if imported in ("", importer, "keras", *allowed) or (name, imported) in EXCEPTIONS:
                continue
            if importer == "export" and imported == "export.signatures":
                continue
            wrong.append(f"{name} imports {module}")
    assert not wrong


def test_nothing_imports_the_pipeline_the_tests_or_the_benchmarks():
    wrong = []
    for path in python_files():
        home = path.relative_to(ROOT).parts[0]
        for module in imports(path):
            top, part = module.split(".")[0], part_of(module)
            if (top in ("tests", "benchmarks") and home not in (top, "tests")) or (
                top == "tfrec_meta" and part == "pipeline" and home not in USERS_OF_THE_PIPELINE
            ):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_pipeline_and_serving_are_imported_by_their_whole_names():
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in python_files()
        for module in imports(path)
        if module.split(".")[0] in ("pipeline", "serving")
    ]
    assert not wrong, "a bare name loads a second copy of the package"


def test_data_evaluation_and_signatures_know_no_tensorflow():
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in python_files()
        if module_of(path).startswith("tfrec_meta.") and part_of(module_of(path)) in NO_TENSORFLOW
        for module in imports(path)
        if module.split(".")[0] in TENSORFLOW or module == "tfrec_meta.keras"
    ]
    assert not wrong


@pytest.mark.parametrize("name", ["pipeline", "serving"])
def test_top_level_folders_are_linked_into_the_package(name):
    link = ROOT / "tfrec_meta" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)
    assert (ROOT / name / "__init__.py").is_file()


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
