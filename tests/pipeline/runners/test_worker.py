"""The warm worker and its client: output, exit statuses, and which processes end together."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfrec_meta.pipeline.runners import worker_client

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "pipeline" / "runners" / "worker_client.py"
FOREVER = "import os; (run / 'pid').write_text(str(os.getpid())); wait(60)"
# A node that starts a child process.
FAMILY = """
import os, subprocess
child = subprocess.Popen(["sleep", "60"])
(run / "pid").write_text(f"{os.getpid()} {child.pid}")
wait(60)
"""


@pytest.fixture(autouse=True)
def interruptible():
    """Child processes can be interrupted, also if the tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run(tmp_path):
    # Longer than the 107 bytes that the address of a socket may have.
    folder = tmp_path / ("a-long-name-" * 12) / "runs" / "manual__2026-11-22T10:00:00+00:00"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def serve(run):
    """Starts a worker of fake nodes; afterwards all started processes are gone."""
    started = []

    def start(idle=60.0, **nodes):
        for name, code in nodes.items():
            (run / f"{name}.py").write_text(code)
        command = [sys.executable, "-m", "tests.pipeline.fake_worker", str(run), str(idle)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        until(lambda: (run / "worker.sock").exists() or process.poll() is not None)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(15)
        process.stdout.close()


def run_node(run, node):
    """Returns the exit status, and the lines that the node printed."""
    lines = []
    return worker_client.run(run, node, lines.append), lines


def until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(run):
    until(lambda: (run / "pid").exists() and (run / "pid").read_text())
    return [int(pid) for pid in (run / "pid").read_text().split()]


def client(run, node, **further):
    """Starts the client as a scheduler does: as a file, without this package."""
    command = [sys.executable, "-I", str(CLIENT), "run", "--run", str(run), "--node", node]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **further)


def test_returns_a_nodes_output_and_status(serve, run):
    serve(
        Good="import sys; print('one'); print('two', file=sys.stderr); print('three', end='')",
        Bad="raise ArithmeticError('no such number')",
        Leaving="import sys; sys.exit(7)",
        Killed="import os; os.kill(os.getpid(), 9)",
        Many="for i in range(50000): print(i, 'x' * 50)",
    )
    assert run_node(run, "Good") == (0, ["one", "two", "three"])
    status, lines = run_node(run, "Bad")
    assert (status, lines[-1]) == (1, "ArithmeticError: no such number")
    assert run_node(run, "Leaving") == (7, [])
    assert run_node(run, "Killed") == (137, ["Killed was killed by signal 9"])
    status, lines = run_node(run, "Many")
    assert [int(line.split()[0]) for line in lines] == list(range(50000))


def test_nodes_run_concurrently_in_sessions_of_their_own(serve, run):
    code = """
import os
(run / "NAME").touch()
while not ((run / "A").exists() and (run / "B").exists()):
    wait(0.02)
print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())
"""
    serve(A=code.replace("NAME", "A"), B=code.replace("NAME", "B"))
    clients = [client(run, node) for node in "AB"]
    for process in clients:
        assert process.communicate(timeout=15)[0] == "True True\n"
        assert process.returncode == 0


def test_only_the_user_may_open_the_socket(serve, run):
    serve()
    assert stat.S_IMODE((run / "worker.sock").stat().st_mode) == 0o600


def test_nodes_wait_while_the_worker_imports(serve, run):
    (run / "slow").write_text("0.5")
    serve(Good="print('done')")
    assert run_node(run, "Good") == (0, ["done"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_killing_a_client_ends_its_node_and_the_nodes_children(serve, run, how):
    serve(Family=FAMILY, Good="print('done')")
    process = client(run, "Family")
    family = pids(run)
    assert all(map(alive, family))
    process.send_signal(how)
    process.wait(15)
    process.stdout.close()
    until(lambda: not any(map(alive, family)))
    assert run_node(run, "Good") == (0, ["done"])  # the worker continues


def test_a_node_that_ignores_sigterm_is_killed(serve, run):
    serve(Deaf="import signal; signal.signal(15, signal.SIG_IGN)\n" + FOREVER)
    process = client(run, "Deaf")
    (node,) = pids(run)
    process.kill()
    process.communicate()
    until(lambda: not alive(node))


def test_processes_that_a_node_leaves_running_end_with_it(serve, run):
    serve(Family=FAMILY.replace("wait(60)", "print('done')"))
    assert run_node(run, "Family") == (0, ["done"])
    until(lambda: not any(map(alive, pids(run))))


def test_killing_the_worker_ends_its_nodes_and_the_client_fails(serve, run):
    worker = serve(Forever=FOREVER)
    process = client(run, "Forever", stderr=subprocess.PIPE)
    (node,) = pids(run)
    worker.kill()
    _, said = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "error: Forever: the worker died while the node ran" in said
    until(lambda: not alive(node))


def test_stop_ends_the_worker_and_its_nodes(serve, run):
    worker = serve(Forever=FOREVER)
    process = client(run, "Forever", stderr=subprocess.PIPE)
    (node,) = pids(run)
    assert worker_client.stop(run)
    assert worker.wait(15) == 0
    process.communicate(timeout=15)
    assert process.returncode == 1
    assert not alive(node)
    assert not (run / "worker.sock").exists()
    assert not worker_client.stop(run)


def test_a_worker_that_still_imports_can_be_stopped(serve, run):
    (run / "slow").write_text("60")
    worker = serve()
    # The socket exists a moment before the worker listens.
    until(lambda: worker_client.stop(run, seconds=1))
    assert worker.wait(15) == -signal.SIGTERM


def test_an_idle_worker_ends_by_itself(serve, run):
    worker = serve(idle=0.2, Short="wait(1); print('done')")
    assert run_node(run, "Short") == (0, ["done"])  # running a node is not idling
    assert worker.wait(15) == 0
    assert "no request for" in worker.stdout.read()


def test_the_worker_ends_with_its_run(serve, run):
    ids = ["A", "B"]
    record = {"nodes": [{"pipeline_node": {"node_info": {"id": name}}} for name in ids]}
    (run / "pipeline.json").write_text(json.dumps(record))
    code = (
        "from tfrec_meta.pipeline.runners.run_folder import NodeRecord, append_record\n"
        "append_record(run, NodeRecord('NAME', 'STATE', '2026-11-22T10:00:00+00:00', 1.0))"
    )
    nodes = {name: code.replace("NAME", name).replace("STATE", "ran") for name in ids}
    worker = serve(Early=code.replace("NAME", "B").replace("STATE", "failed"), **nodes)
    for name in ("A", "Early"):
        assert run_node(run, name) == (0, [])
        assert worker.poll() is None
    assert run_node(run, "B") == (0, [])
    assert worker.wait(15) == 0
    assert "the run has finished" in worker.stdout.read()


def test_a_second_worker_of_a_run_ends(serve, run):
    first = serve(Good="print('done')")
    second = serve()
    assert second.wait(15) == 0
    assert "another worker serves this run" in second.stdout.read()
    assert first.poll() is None
    assert run_node(run, "Good") == (0, ["done"])


def test_an_invalid_message_gets_an_error_and_the_worker_continues(serve, run):
    serve(Good="print('done')")
    for nonsense in (b"{]\n", b"[1]\n", b'{"node": 3}\n', b"\xff\n"):
        connection = worker_client._connect(run)
        connection.sendall(nonsense)
        with connection, connection.makefile() as answers:
            said = [json.loads(line) for line in answers]
        assert "invalid request" in said[0]["line"]
        assert said[-1] == {"exit": 2}
    with worker_client._connect(run) as connection:
        connection.sendall(
            b"x" * 200_000
        )  # without an end of line, the worker closes the connection
        assert worker_client._closed(connection, 10)
    assert run_node(run, "Good") == (0, ["done"])


# --- Without a worker --------------------------------------------------------------------------


@pytest.fixture
def own_process(run):
    """Deploys a fake Python with TFX for the run; returns a function that sets its code."""

    def fake_python(code):
        fake = run / "python"
        fake.write_text(f"#!{sys.executable}\nimport pathlib, sys, time\n{code}")
        fake.chmod(0o755)
        (run / "deployment.json").write_text(
            json.dumps({"python": str(fake), "directory": str(run.parent)})
        )

    return fake_python


@pytest.mark.parametrize("stale", [False, True])
def test_without_a_worker_a_node_runs_in_a_process_of_its_own(own_process, run, stale):
    if stale:
        with socket.socket(socket.AF_UNIX) as listener:
            before = os.getcwd()
            os.chdir(run)
            listener.bind("worker.sock")
            os.chdir(before)
    own_process("import os; print(*sys.argv[1:]); print(os.getcwd(), file=sys.stderr); sys.exit(3)")
    status, lines = run_node(run, "Trainer")
    assert status == 3
    assert lines[0] == "Trainer: no worker; it runs in a process of its own"
    # Two streams, whose lines may arrive in either order.
    said, where = sorted(lines[1:], key=lambda line: line == str(run.parent))
    assert said.split()[:4] == ["-u", "-m", "tfrec_meta.pipeline.runners.nodes", "run"]
    assert said.split()[-2:] == ["--node", "Trainer"]
    assert where == str(run.parent)


def test_a_node_runs_in_a_process_of_its_own_if_the_worker_fails_to_start(own_process, serve, run):
    own_process("print('alone')")
    (run / "slow").write_text("0.3")
    (run / "broken").touch()
    serve()
    status, lines = run_node(run, "Trainer")
    assert (status, lines[-1]) == (0, "alone")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_killing_a_client_ends_its_process_and_the_processs_children(own_process, run, how):
    family = FAMILY.replace("run /", "pathlib.Path(RUN) /").replace("wait(60)", "time.sleep(60)")
    own_process(family.replace("RUN", repr(str(run))))
    process = client(run, "Trainer")
    family = pids(run)
    assert all(map(alive, family))
    process.send_signal(how)
    process.communicate(timeout=15)
    until(lambda: not any(map(alive, family)))


def test_the_client_imports_neither_this_package_nor_tfx():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import worker_client; print(*sys.modules)"
    command = [sys.executable, "-S", "-I", "-c", code, str(CLIENT.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"tfrec_meta", "tfx", "tensorflow"} & set(done.stdout.split())


# --- Beginning a run ---------------------------------------------------------------------------


@pytest.fixture
def deployed(tmp_path):
    folder = tmp_path / "deployed"
    folder.mkdir()
    (folder / "pipeline.json").write_text("{}")
    (folder / "deployment.json").write_text(json.dumps({"folder": str(tmp_path / "films")}))
    return folder


@pytest.fixture
def compiling(deployed, tmp_path):
    """A pipeline deployed with its config, and a fake compiler that records its arguments."""
    fake = tmp_path / "python"
    fake.write_text(
        f"#!{sys.executable} -S\nimport json, sys, pathlib\n"
        "if 'tuner.trials=no' in sys.argv: sys.exit('warning\\nerror: `trials` is no number')\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--compile') + 1])\n"
        "(out / 'pipeline.json').write_text(json.dumps(sys.argv[1:]))\n"
    )
    fake.chmod(0o755)
    record = {"folder": str(tmp_path / "films"), "python": str(fake), "config": "/films.yaml"}
    (deployed / "deployment.json").write_text(json.dumps(record))
    return deployed, record


def test_a_run_begins_with_a_copy_of_the_pipeline_and_keeps_it(deployed, tmp_path):
    run = worker_client.begin(deployed, "scheduled__2026-11-22T00:00:00+00:00")
    assert run == tmp_path / "films" / "runs" / "scheduled__2026-11-22T00:00:00+00:00"
    assert sorted(path.name for path in run.iterdir()) == ["deployment.json", "pipeline.json"]
    (deployed / "pipeline.json").write_text('{"other": 1}')
    worker_client.begin(deployed, run.name)
    assert (run / "pipeline.json").read_text() == "{}"


@pytest.mark.parametrize("run_id", ["..", "../x", "a/b", "", ".x"])
def test_refuses_a_run_id_that_is_not_a_valid_folder_name(deployed, run_id):
    with pytest.raises(ValueError, match="not a valid folder name"):
        worker_client.begin(deployed, run_id)


@pytest.mark.parametrize(
    "setting",
    [
        "serving=/srv/other",
        "root=/tmp",
        "name=other",
        "materialize=true",
        "metadata=mysql",
        "beam=[--runner=FlinkRunner]",
        "data={interactions: {path: /etc/passwd}}",
        "data.interactions.path=/etc/passwd",
        "data.schemas=/etc",
        "data.time_unit=ms",
        "data.drifting=1",
        "infra_validator={image: mine}",
        "infra_validator.image=mine",
        "infra_validator.server=docker",
        "tuner={trials: 3}",  # only its parts may be set
        "tuner.store=/etc",
        "tuner.store.x=/etc",
        "tuners.trials=3",
        "seed.x=1",
        " serving =/srv/other",
        "--config=/etc/other.yaml",
        "",
    ],
)
def test_refuses_a_setting_that_a_run_may_not_set_before_writing_anything(
    deployed, tmp_path, setting
):
    record = {"folder": str(tmp_path / "films"), "config": "/films.yaml", "python": "/no/python"}
    (deployed / "deployment.json").write_text(json.dumps(record))
    with pytest.raises(ValueError) as error:
        worker_client.begin(deployed, "r1", ["tuner.trials=3", setting])
    assert f"may not set {setting.partition('=')[0].strip()!r}; it may set split.…" in str(
        error.value
    )
    assert not (tmp_path / "films").exists()


def test_the_deployment_may_set_anything(compiling):
    deployed, record = compiling
    (deployed / "deployment.json").write_text(json.dumps({**record, "settings": ["serving=/srv"]}))
    run = worker_client.begin(deployed, "r1", ["seed=2"])
    arguments = json.loads((run / "pipeline.json").read_text())
    assert arguments[-4:] == ["--set", "serving=/srv", "--set", "seed=2"]


@pytest.mark.parametrize(
    "setting",
    [
        "split.protocol=leave-last-out",
        "tuner.fixed={a: 1}",
        "trainer.strategy.model.hidden=[8]",
        "evaluator.min_ndcg=0.05",
        "data.drift={users.age: 0.1}",
        "data.drift.users=0.1",
        "data.max_drift=0.1",
        "data.split_drift={interactions.value: 0.5}",
        "data.max_split_drift=0.5",
        "data.warn_new_ids=0.1",
        "infra_validator.seconds=9",
        "infra_validator.requests=9",
        "infra_validator.memory_mb=999",
        "cache=false",
        " seed = 2",
    ],
)
def test_passes_the_settings_of_a_run_to_the_compiler(compiling, setting):
    run = worker_client.begin(compiling[0], "r1", [setting])
    assert json.loads((run / "pipeline.json").read_text())[-2:] == ["--set", setting]


def test_settings_require_a_deployed_config(deployed):
    with pytest.raises(ValueError, match="without its config"):
        worker_client.begin(deployed, "r1", ["tuner.trials=3"])


def test_settings_compile_the_pipeline_for_this_run(compiling):
    deployed, record = compiling
    (deployed / "deployment.json").write_text(json.dumps({**record, "settings": ["seed=1"]}))
    with pytest.raises(ValueError, match="`trials` is no number"):
        worker_client.begin(deployed, "r1", ["tuner.trials=no"])
    run = worker_client.begin(deployed, "r1", ["tuner.trials=3"])
    arguments = json.loads((run / "pipeline.json").read_text())
    assert arguments[:4] == [
        "-m",
        "tfrec_meta.pipeline.runners.local_runner",
        "--config",
        "/films.yaml",
    ]
    assert arguments[-4:] == ["--set", "seed=1", "--set", "tuner.trials=3"]
    assert [path.name for path in run.iterdir()] == ["pipeline.json"]
