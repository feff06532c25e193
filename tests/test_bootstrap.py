"""Set-up's decisions, without a network and without the real `.venv`."""

import ast
import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]

DEB822 = """\
# the mirror of the house
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def bootstrap(monkeypatch, tmp_path):
    """The module, with everything that it writes below a temporary folder."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    (venv / "bin").mkdir(parents=True)
    for name, value in {
        "VENV": venv,
        "PYTHON": venv / "bin" / "python",
        "TOOLS": venv / "tools",
        "LIBRARIES": venv / "libraries",
        "BROWSER": venv / "browser",
        "AIRFLOW_VENV": tmp_path / ".venv-airflow",
        "STAMPS": venv / "stamps.json",
        "LOG": venv / "setup.log",
    }.items():
        monkeypatch.setattr(module, name, str(value))
    return module


@pytest.fixture
def fake_setup(bootstrap, tmp_path):
    """A function that runs set-up with steps that only leave marks; returns the steps it ran."""
    data = tmp_path / "data"
    packages = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"

    class Fake(bootstrap.Setup):
        fails_at = None

        def step(self, name):
            self.ran.append(name)
            if name == self.fails_at:
                raise KeyboardInterrupt

        def tools(self):
            """tools"""
            self.step("tools")

        def libraries(self):
            """libraries"""
            self.step("libraries")

        def python(self):
            """python"""
            self.step("python")

        def packages(self):
            """packages"""
            packages.mkdir(parents=True, exist_ok=True)
            (packages / "numpy").touch()
            self.step("packages")

        def project(self):
            """project"""
            self.step("project")

        def data(self):
            """data"""
            data.mkdir(exist_ok=True)
            self.stamps["data"] = str(data)
            self.step("data")

    def run(fails_at=None, wanted=bootstrap.Setup.ORDER):
        executable = os.path.realpath(sys.executable)
        interpreter = {"executable": executable, "libraries": "", "glibc": [2, 39]}
        setup = Fake(interpreter, bootstrap.read_stamps())
        setup.ran, setup.fails_at = [], fails_at
        with open(bootstrap.LOG, "w+") as log:
            try:
                setup.bring_up_to_date(log, log, wanted)
            except KeyboardInterrupt:
                assert fails_at
        return setup.ran

    return SimpleNamespace(run=run, packages=packages, data=data, order=list(Fake.ORDER))


def test_every_step_runs_once_in_order_and_then_nothing(fake_setup, bootstrap):
    assert fake_setup.run() == fake_setup.order
    assert fake_setup.run() == []
    assert bootstrap.finished(None)


@pytest.mark.parametrize("step", ["tools", "libraries", "python", "data"])
def test_an_interrupted_step_and_those_after_it_are_done_again(fake_setup, bootstrap, step):
    order = fake_setup.order
    assert fake_setup.run(fails_at=step) == order[: order.index(step) + 1]
    assert not bootstrap.finished(None)
    expected = order[order.index(step) :]
    assert fake_setup.run() == expected
    assert bootstrap.finished(None)


@pytest.mark.parametrize("step", ["packages", "project"])
def test_packages_that_were_half_laid_out_get_a_new_environment(fake_setup, step):
    fake_setup.run(fails_at=step)
    assert fake_setup.run() == ["python", "packages", "project", "data"]
    fake_setup.data.rmdir()
    (fake_setup.packages / "numpy").unlink()
    fake_setup.run(fails_at=step)
    assert fake_setup.run() == ["python", "packages", "project", "data"]


def test_a_package_that_went_missing_is_put_back(fake_setup):
    fake_setup.run()
    (fake_setup.packages / "numpy").unlink()
    assert fake_setup.run() == ["python", "packages", "project"]


def test_data_that_went_missing_is_fetched_again(fake_setup):
    fake_setup.run()
    fake_setup.data.rmdir()
    assert fake_setup.run() == ["data"]


def test_another_lock_renews_the_packages_alone(fake_setup, bootstrap, monkeypatch, tmp_path):
    fake_setup.run()
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2.0\n")
    monkeypatch.setattr(bootstrap, "LOCK", str(lock))
    assert fake_setup.run() == ["python", "packages", "project", "data"]


def test_locking_needs_the_tools_alone(fake_setup):
    assert fake_setup.run(wanted=("tools",)) == ["tools"]
    assert fake_setup.run() == fake_setup.order[1:]


def test_damaged_stamps_count_as_none(bootstrap):
    Path(bootstrap.STAMPS).write_text('{"steps": ')
    assert bootstrap.read_stamps() == {"steps": {}}
    assert not bootstrap.finished(None)


def test_another_interpreter_than_the_one_asked_for_is_not_finished(
    fake_setup, bootstrap, tmp_path
):
    fake_setup.run()
    assert bootstrap.finished(sys.executable)
    assert not bootstrap.finished(str(tmp_path / "python3.12"))


def test_a_second_set_up_waits_for_the_first(bootstrap, capsys):
    with open(Path(bootstrap.VENV, "setup.lock"), "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.3, lambda: fcntl.flock(held, fcntl.LOCK_UN)).start()
        started = time.monotonic()
        with bootstrap.exclusive():
            waited = time.monotonic() - started
    assert waited > 0.2
    assert "Waiting for another set-up" in capsys.readouterr().out


def test_a_child_that_outlives_set_up_keeps_the_lock(bootstrap):
    with open(bootstrap.LOG, "w+") as log, bootstrap.exclusive() as lock_file:
        run = bootstrap.Runner(log, lock_file)
        run(["sh", "-c", "sleep 1 > /dev/null 2>&1 &"], "leaving a child behind")
    with (
        open(Path(bootstrap.VENV, "setup.lock"), "a") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("version", [(3, 6), (3, 8)])
def test_an_old_python_reads_the_script(version):
    ast.parse((ROOT / "bootstrap.py").read_text(encoding="utf-8"), feature_version=version)


def fake_python(folder: Path, name: str, says: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\nprintf '{says}\\n'\n")
    path.chmod(0o755)
    return str(path)


def test_unsuitable_pythons_are_named_with_the_way_out(bootstrap, monkeypatch, tmp_path):
    old = fake_python(tmp_path, "python3", "no\\tcpython 3.9")
    fake_python(tmp_path, "python3.13", "no\\tfree-threaded cpython 3.13")
    monkeypatch.setattr(sys, "executable", old)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bootstrap.SetupError) as error:
        bootstrap.find_python()
    said = str(error.value)
    assert "\n" not in said
    assert "no suitable Python: CPython 3.11, 3.12 or 3.13 is needed" in said
    assert "cpython 3.9" in said
    assert "free-threaded" in said
    assert "make setup PYTHON=" in said


def test_a_suitable_python_on_path_is_found(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path, "python3", "no\\tcpython 3.14"))
    path = tmp_path / "python3.12"
    fake_python(tmp_path, "python3.12", f"yes\\t{path}\\t/opt/lib\\tglibc 2.36")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = bootstrap.find_python()
    assert found == {"executable": str(path), "libraries": "/opt/lib", "glibc": [2, 36]}


def test_the_python_asked_for_is_not_replaced_by_another(bootstrap, tmp_path):
    with pytest.raises(bootstrap.SetupError, match="not found"):
        bootstrap.find_python(str(tmp_path / "python3.12"))


def test_the_running_python_is_suitable(bootstrap):
    interpreter, why = bootstrap.probe(sys.executable)
    assert not why
    assert Path(interpreter["executable"]).is_file()


def test_another_platform_is_refused_in_one_line(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "aarch64")
    with pytest.raises(bootstrap.SetupError, match="this is Linux on aarch64, but"):
        bootstrap.check_platform()


def test_a_system_without_glibc_is_refused(bootstrap, tmp_path):
    path = fake_python(tmp_path, "python3.12", f"yes\\t{tmp_path}/python3.12\\t\\t")
    with pytest.raises(bootstrap.SetupError, match="another C library than glibc"):
        bootstrap.find_python(path)


def test_an_environments_python_leads_to_the_one_below_it(bootstrap, tmp_path):
    base = tmp_path / "python3.12"
    fake_python(tmp_path, "python3.12", f"yes\\t{base}\\t\\tglibc 2.36")
    inner = fake_python(tmp_path, "python", f"yes\\t{base}\\t\\tglibc 2.41")
    interpreter, _ = bootstrap.probe(inner)
    assert (interpreter["executable"], interpreter["glibc"]) == (str(base), [2, 36])


def test_too_little_disk_says_how_much_is_missing(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: SimpleNamespace(free=4e9))
    with pytest.raises(bootstrap.SetupError, match=r"4\.0 GB are free at .* and 4\.5 GB are need"):
        bootstrap.need_disk(str(tmp_path / "cache" / "uv"))


def test_an_environment_that_is_replaced_counts_as_space(bootstrap, monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: SimpleNamespace(free=4e9))
    (Path(bootstrap.VENV) / "lib").mkdir()
    (Path(bootstrap.VENV) / "lib" / "big").write_bytes(b"x" * 1_000_000)
    assert 1_000_000 <= bootstrap.disk_use(bootstrap.VENV) < 1_100_000
    monkeypatch.setattr(bootstrap, "disk_use", lambda folder: 0.6e9)
    bootstrap.need_disk(str(tmp_path / "cache"))


def test_a_cache_on_another_disk_needs_space_there(bootstrap, monkeypatch, tmp_path):
    cache = str(tmp_path / "cache")
    free = {str(tmp_path): 1e9, bootstrap.VENV: 9e9}
    usage = lambda path: SimpleNamespace(free=free[path])  # noqa: E731
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", usage)
    bootstrap.need_disk(cache)  # one disk: hard links
    monkeypatch.setattr(bootstrap, "device_of", lambda folder: folder)
    with pytest.raises(bootstrap.SetupError, match=r"1\.0 GB are free at .*cache and 3\.6 GB"):
        bootstrap.need_disk(cache)


@pytest.mark.parametrize(
    "said, expected",
    [
        ("ERROR: ... Failed to establish a new connection: [Errno 111]", "no network"),
        ("Temporary failure resolving 'mirror.example'", "no network"),
        ("error: dns error: failed to lookup address information", "no network"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("error: build failed", "exit status 2"),
    ],
)
def test_failures_are_told_apart(bootstrap, said, expected):
    error = bootstrap.Runner.error("getting it", said, 2)
    assert str(error).startswith("getting it: " + expected)
    assert error.show_log == (expected == "exit status 2")


def test_a_failing_command_is_one_line_and_its_words_are_in_the_log(bootstrap):
    with open(bootstrap.LOG, "w+") as log:
        run = bootstrap.Runner(log, log)
        with pytest.raises(bootstrap.SetupError, match="getting it: no network: "):
            run(["sh", "-c", "echo Network is unreachable >&2; exit 7"], "getting it")
        assert run(["echo", "fine"], "saying so") == "fine\n"
    assert "Network is unreachable" in Path(bootstrap.LOG).read_text()


def test_main_shows_the_logs_end_only_where_it_says_more(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "find_python", lambda wanted=None: {})

    def fail(setup, log, lock_file):
        bootstrap.Runner(log, lock_file)(["sh", "-c", "echo what it said >&2; exit 7"], "trying")

    monkeypatch.setattr(bootstrap.Setup, "bring_up_to_date", fail)
    assert bootstrap.main(["setup"]) == 1
    said = capsys.readouterr().err
    assert "  | what it said\n" in said
    assert "error: trying: exit status 7; " in said


def test_main_ends_with_one_clear_line(bootstrap, monkeypatch, capsys):
    def refuse(wanted=None):
        raise bootstrap.SetupError("no suitable Python: none.")

    monkeypatch.setattr(bootstrap, "find_python", refuse)
    assert bootstrap.main(["setup"]) == 1
    assert capsys.readouterr().err == "error: no suitable Python: none.\n"


def test_pip_settings_go_to_uv(bootstrap, monkeypatch):
    for name in list(os.environ):
        if name.startswith("UV_") or name in ("SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY"):
            monkeypatch.delenv(name)
    said = (
        ":env:.timeout='30'\n"
        "global.index-url='https://user:pass@index.example/simple'\n"
        "global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'\n"
        "global.cert='/certificates.pem'\n"
        "global.timeout='99'\n"
        "install.trusted-host='index.example'\n"
    )
    settings = bootstrap.pip_settings(lambda command, what: said, ["pip"])
    environment = bootstrap.uv_environment(settings)
    assert environment["UV_DEFAULT_INDEX"] == "https://user:pass@index.example/simple"
    assert environment["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert environment["SSL_CERT_FILE"] == "/certificates.pem"
    assert environment["UV_INSECURE_HOST"] == "index.example"
    assert environment["UV_HTTP_TIMEOUT"] == "30"
    assert "UV_FIND_LINKS" not in environment


def test_what_uv_was_told_itself_stays(bootstrap, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    environment = bootstrap.uv_environment({"index-url": "https://index.example/simple"})
    assert environment["UV_DEFAULT_INDEX"] == "https://own.example/simple"


def test_a_home_that_takes_no_files_moves_the_cache(bootstrap, monkeypatch):
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert bootstrap.uv_cache() == str(Path(bootstrap.VENV, "uv-cache"))


def test_deb822_sources_are_turned_to_the_newer_release(bootstrap):
    sources = [("/etc/apt/sources.list.d/debian.sources", DEB822)]
    name, text = bootstrap.source_for("trixie", "bookworm", sources, "debian")
    assert name.endswith(".sources")
    assert bootstrap.deb822(text) == {
        "types": "deb",
        "uris": "http://mirror.example/debian",
        "suites": "trixie",
        "components": "main",
        "signed-by": "/usr/share/keyrings/debian-archive-keyring.gpg",
    }


def test_one_line_sources_are_turned_to_the_newer_release(bootstrap):
    line = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/ubuntu jammy main restricted\n"
    sources = [("/etc/apt/sources.list", "# deb http://old.example jammy main\n" + line)]
    name, text = bootstrap.source_for("noble", "jammy", sources, "ubuntu")
    assert name.endswith(".list")
    expected = (
        "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/ubuntu noble main universe\n"
    )
    assert text == expected


def test_a_key_inside_a_source_stays_whole(bootstrap):
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END"
    sources = [("a.sources", DEB822.split("\n\n")[0].rsplit("\n", 1)[0] + "\n" + key)]
    _, text = bootstrap.source_for("trixie", "bookworm", sources, "debian")
    assert " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n" in text


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.sources", DEB822.replace("Types: deb deb-src", "Enabled: no\nTypes: deb")),
        ("a.list", "deb http://mirror.example/debian bookworm-backports main\n"),
        ("a.list", "deb-src http://mirror.example/debian bookworm main\n"),
    ],
)
def test_sources_of_something_else_are_left_alone(bootstrap, name, text):
    assert bootstrap.source_for("trixie", "bookworm", [(name, text)], "debian") is None


@pytest.mark.parametrize(
    "family, components", [("debian", "main"), ("ubuntu", "main universe"), (None, "main")]
)
def test_universe_is_asked_of_ubuntu_alone(bootstrap, family, components):
    sources = [("a.list", "deb http://mirror.example/os newest main contrib\n")]
    _, text = bootstrap.source_for("newest", "newest", sources, family)
    assert text == f"deb http://mirror.example/os newest {components}\n"
    deb822 = DEB822.replace("bookworm bookworm-updates", "newest")
    _, text = bootstrap.source_for("newest", "newest", [("a.sources", deb822)], family)
    assert bootstrap.deb822(text)["components"] == components


def test_a_system_without_apt_is_told_what_it_needs(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    folder = bootstrap.LIBRARIES
    with pytest.raises(bootstrap.SetupError) as error:
        bootstrap.apt_download(None, ["libc6"], folder, "getting a private glibc", (2, 36))
    assert str(error.value).startswith("getting a private glibc: this system has no apt-get; use ")


@pytest.fixture
def no_browser(bootstrap, monkeypatch, tmp_path):
    """A PATH with a shell alone."""
    monkeypatch.delenv("CHROME", raising=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_the_browser_named_or_on_path_is_taken(bootstrap, no_browser, monkeypatch, tmp_path):
    assert bootstrap.find_browser() is None
    fake_python(tmp_path / "bin", "chromium", "Chromium 1")
    assert bootstrap.find_browser() == "chromium"
    assert bootstrap.main(["browser"]) == 0  # and nothing is fetched
    own = fake_python(tmp_path, "own", "Chromium 2")
    monkeypatch.setenv("CHROME", own)
    assert bootstrap.find_browser() == own
    monkeypatch.setenv("CHROME", "/nowhere/chromium")
    with pytest.raises(bootstrap.SetupError, match="CHROME=/nowhere/chromium is no program"):
        bootstrap.find_browser()


def test_a_fetched_browser_starts_with_its_own_libraries_and_is_kept(
    bootstrap, no_browser, monkeypatch
):
    asked = []

    def fake_download(run, packages, folder, what, glibc, way_out, without):
        asked.append((packages, without))
        program = Path(folder, "usr/lib/chromium")
        libraries = Path(folder, "usr/lib/x86_64-linux-gnu")
        program.mkdir(parents=True)
        libraries.mkdir()
        (libraries / "libnss3.so").touch()
        said = 'echo "Chromium 3 in $LD_LIBRARY_PATH by $FONTCONFIG_FILE"'
        (program / "chromium-headless-shell").write_text(f"#!/bin/sh\n{said}\n")
        (program / "chromium-headless-shell").chmod(0o755)

    monkeypatch.setattr(bootstrap, "apt_download", fake_download)
    with open(bootstrap.LOG, "w+") as log:
        said = bootstrap.Setup({}, bootstrap.read_stamps()).browser(log, log)
    home = Path(bootstrap.BROWSER)
    assert said == f"Chromium 3 in {home}/usr/lib/x86_64-linux-gnu by {home}/fonts.conf"
    assert asked == [(bootstrap.BROWSER_PACKAGES, bootstrap.BROWSER_WITHOUT)]
    assert f"<dir>{home}/usr/share/fonts</dir>" in (home / "fonts.conf").read_text()
    assert bootstrap.find_browser() == str(home / "run")
    monkeypatch.setattr(bootstrap, "BROWSER_PACKAGES", ("another",))
    assert bootstrap.find_browser() is None


def test_without_apt_the_way_to_a_browser_is_told(bootstrap, no_browser):
    with open(bootstrap.LOG, "w+") as log, pytest.raises(bootstrap.SetupError) as error:
        bootstrap.Setup({}, bootstrap.read_stamps()).browser(log, log)
    assert str(error.value) == (
        "getting a browser: this system has no apt-get; "
        "install Chromium, or name one: CHROME=/path/to/chromium"
    )


def test_airflow_is_set_up_once_and_anew_when_it_was_left_half_way_or_its_lock_changed(
    bootstrap, fake_setup, monkeypatch, tmp_path
):
    assert not bootstrap.has_airflow()
    fake_setup.run()
    interpreter = bootstrap.read_stamps()["interpreter"]
    lock = tmp_path / "airflow.lock"
    lock.write_text("apache-airflow==3.3.2")
    monkeypatch.setattr(bootstrap, "AIRFLOW_LOCK", str(lock))
    packages = tmp_path / ".venv-airflow" / "lib" / "python3.12" / "site-packages"

    class Fake(bootstrap.Setup):
        def bring_up_to_date(self, log, lock_file, wanted):
            assert wanted == ("tools",)
            self.run = lambda command, what: packages.mkdir(parents=True)

        def uv(self, arguments, what):
            assert arguments[-1] == str(lock)
            assert "--require-hashes" in arguments
            (packages / "airflow").touch()
            if self.fails:
                raise KeyboardInterrupt

    def set_up(fails=False):
        setup = Fake(interpreter, bootstrap.read_stamps())
        setup.fails = fails
        setup.airflow(None, None)

    with pytest.raises(KeyboardInterrupt):
        set_up(fails=True)
    assert not bootstrap.has_airflow()
    set_up()
    assert bootstrap.has_airflow()
    assert bootstrap.main(["airflow"]) == 0  # and nothing is done
    (packages / "airflow").unlink()
    assert not bootstrap.has_airflow()
    set_up()
    lock.write_text("apache-airflow==3.3.3")
    assert not bootstrap.has_airflow()


def test_running_set_up_again_does_nothing_and_is_quick():
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    real = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real)
    assert real.finished(None), "run `make setup` before the tests"
    # By the environment's own Python, which hands over to the one below it.
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "bootstrap.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - started < 3
    stamps = json.loads((ROOT / ".venv" / "stamps.json").read_text())
    assert set(stamps["steps"]) >= {"tools", "packages", "project", "data"}
