"""The warm worker and its client: what a node prints, how it ends, and who is ended with it."""

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
# A node that starts a process of its own.
FAMILY = """
import os, subprocess
child = subprocess.Popen(["sleep", "60"])
(run / "pid").write_text(f"{os.getpid()} {child.pid}")
wait(60)
"""


@pytest.fixture
def run(tmp_path):
    # Longer than the 107 bytes that the address of a socket may have.
    folder = tmp_path / ("a-long-name-" * 12) / "runs" / "manual__2026-11-22T10:00:00+00:00"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def serve(run):
    """Starts a worker of fake nodes; all that it has started is gone afterwards."""
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


def ask(run, node):
    """(exit status, the lines that the node printed)."""
    lines = []
    return worker_client.run(run, node, lines.append), lines


def until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(run):
    until(lambda: (run / "pid").exists() and (run / "pid").read_text())
    return [int(pid) for pid in (run / "pid").read_text().split()]


def client(run, node, **further):
    """The client as a scheduler starts it: a file, without this package."""
    command = [sys.executable, "-I", str(CLIENT), "run", "--run", str(run), "--node", node]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **further)


def test_a_nodes_lines_and_status_come_back(serve, run):
    serve(
        Good="import sys; print('one'); print('two', file=sys.stderr); print('three', end='')",
        Bad="raise ArithmeticError('no such number')",
        Leaving="import sys; sys.exit(7)",
        Killed="import os; os.kill(os.getpid(), 9)",
        Many="for i in range(50000): print(i, 'x' * 50)",
    )
    assert ask(run, "Good") == (0, ["one", "two", "three"])
    status, lines = ask(run, "Bad")
    assert (status, lines[-1]) == (1, "ArithmeticError: no such number")
    assert ask(run, "Leaving") == (7, [])
    assert ask(run, "Killed") == (137, ["Killed was killed by signal 9"])
    status, lines = ask(run, "Many")
    assert [int(line.split()[0]) for line in lines] == list(range(50000))


def test_nodes_run_side_by_side_and_in_sessions_of_their_own(serve, run):
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


def test_the_socket_is_the_users_alone(serve, run):
    serve()
    assert stat.S_IMODE((run / "worker.sock").stat().st_mode) == 0o600


def test_nodes_wait_while_the_worker_imports(serve, run):
    (run / "slow").write_text("0.5")
    serve(Good="print('done')")
    assert ask(run, "Good") == (0, ["done"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_client_that_is_killed_takes_the_node_and_its_children_along(serve, run, how):
    serve(Family=FAMILY, Good="print('done')")
    process = client(run, "Family")
    family = pids(run)
    assert all(map(alive, family))
    process.send_signal(how)
    process.wait(15)
    process.stdout.close()
    until(lambda: not any(map(alive, family)))
    assert ask(run, "Good") == (0, ["done"])  # the worker itself goes on


def test_a_node_that_ignores_sigterm_is_killed(serve, run):
    serve(Deaf="import signal; signal.signal(15, signal.SIG_IGN)\n" + FOREVER)
    process = client(run, "Deaf")
    (node,) = pids(run)
    process.kill()
    process.communicate()
    until(lambda: not alive(node))


def test_what_a_node_leaves_running_ends_with_it(serve, run):
    serve(Family=FAMILY.replace("wait(60)", "print('done')"))
    assert ask(run, "Family") == (0, ["done"])
    until(lambda: not any(map(alive, pids(run))))


def test_a_worker_that_is_killed_takes_its_nodes_along_and_the_client_fails(serve, run):
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
    # Its socket is there a moment before it listens.
    until(lambda: worker_client.stop(run, seconds=1))
    assert worker.wait(15) == -signal.SIGTERM


def test_an_idle_worker_ends_by_itself(serve, run):
    worker = serve(idle=0.2, Short="wait(1); print('done')")
    assert ask(run, "Short") == (0, ["done"])  # working is not idling
    assert worker.wait(15) == 0
    assert "nothing to do" in worker.stdout.read()


def test_the_worker_ends_with_its_run(serve, run):
    ids = ["A", "B"]
    record = {"nodes": [{"pipeline_node": {"node_info": {"id": name}}} for name in ids]}
    (run / "pipeline.json").write_text(json.dumps(record))
    code = (
        "import json; f = open(run / 'nodes.jsonl', 'a');"
        "f.write(json.dumps({'node': 'NAME', 'state': 'STATE'}) + '\\n'); f.close()"
    )
    nodes = {name: code.replace("NAME", name).replace("STATE", "ran") for name in ids}
    worker = serve(Early=code.replace("NAME", "B").replace("STATE", "failed"), **nodes)
    for name in ("A", "Early"):
        assert ask(run, name) == (0, [])
        assert worker.poll() is None
    assert ask(run, "B") == (0, [])
    assert worker.wait(15) == 0
    assert "the run is over" in worker.stdout.read()


def test_a_second_worker_leaves_the_run_to_the_first(serve, run):
    first = serve(Good="print('done')")
    second = serve()
    assert second.wait(15) == 0
    assert "another worker serves this run" in second.stdout.read()
    assert first.poll() is None
    assert ask(run, "Good") == (0, ["done"])


def test_a_message_that_makes_no_sense_is_answered_and_harms_nothing(serve, run):
    serve(Good="print('done')")
    for nonsense in (b"{]\n", b"[1]\n", b'{"node": 3}\n', b"\xff\n"):
        connection = worker_client._connect(run)
        connection.sendall(nonsense)
        with connection, connection.makefile() as answers:
            said = [json.loads(line) for line in answers]
        assert "does not understand" in said[0]["line"]
        assert said[-1] == {"exit": 2}
    with worker_client._connect(run) as connection:
        connection.sendall(b"x" * 200_000)  # no end of line in sight: it hangs up
        assert worker_client._closed(connection, 10)
    assert ask(run, "Good") == (0, ["done"])


# --- Without a worker --------------------------------------------------------------------------


@pytest.fixture
def alone(run):
    """The run's deployment names a Python that pretends to have TFX; returns what it shall do."""

    def pretend(code):
        fake = run / "python"
        fake.write_text(f"#!{sys.executable}\nimport pathlib, sys, time\n{code}")
        fake.chmod(0o755)
        (run / "deployment.json").write_text(
            json.dumps({"python": str(fake), "directory": str(run.parent)})
        )

    return pretend


@pytest.mark.parametrize("stale", [False, True])
def test_without_a_worker_a_node_has_a_process_of_its_own(alone, run, stale):
    if stale:
        with socket.socket(socket.AF_UNIX) as listener:
            before = os.getcwd()
            os.chdir(run)
            listener.bind("worker.sock")
            os.chdir(before)
    alone("import os; print(*sys.argv[1:]); print(os.getcwd(), file=sys.stderr); sys.exit(3)")
    status, lines = ask(run, "Trainer")
    assert status == 3
    assert lines[0] == "Trainer: no worker; a process of its own"
    # Of two streams, which on a busy machine may come in either order.
    said, where = sorted(lines[1:], key=lambda line: line == str(run.parent))
    assert said.split()[:4] == ["-u", "-m", "tfrec_meta.pipeline.runners.nodes", "run"]
    assert said.split()[-2:] == ["--node", "Trainer"]
    assert where == str(run.parent)


def test_a_worker_that_can_not_start_leaves_the_node_to_itself(alone, serve, run):
    alone("print('alone')")
    (run / "slow").write_text("0.3")
    (run / "broken").touch()
    serve()
    status, lines = ask(run, "Trainer")
    assert (status, lines[-1]) == (0, "alone")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_killed_client_takes_that_process_and_its_children_along(alone, run, how):
    family = FAMILY.replace("run /", "pathlib.Path(RUN) /").replace("wait(60)", "time.sleep(60)")
    alone(family.replace("RUN", repr(str(run))))
    process = client(run, "Trainer")
    family = pids(run)
    assert all(map(alive, family))
    process.send_signal(how)
    process.communicate(timeout=15)
    until(lambda: not any(map(alive, family)))


def test_the_client_needs_neither_this_package_nor_tfx():
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
    """A pipeline deployed with its config, and its deployment; what compiles notes its words."""
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
def test_a_run_id_that_names_no_folder_is_refused(deployed, run_id):
    with pytest.raises(ValueError, match="can't name a folder"):
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
        "tuner={trials: 3}",  # by its parts only
        "tuner.store=/etc",
        "tuner.store.x=/etc",
        "tuners.trials=3",
        "seed.x=1",
        " serving =/srv/other",
        "--config=/etc/other.yaml",
        "",
    ],
)
def test_what_one_run_may_not_set_is_named_before_anything_is_written(deployed, tmp_path, setting):
    record = {"folder": str(tmp_path / "films"), "config": "/films.yaml", "python": "/no/python"}
    (deployed / "deployment.json").write_text(json.dumps(record))
    with pytest.raises(ValueError) as error:
        worker_client.begin(deployed, "r1", ["tuner.trials=3", setting])
    assert f"may not set {setting.partition('=')[0].strip()!r}; it may set split.…" in str(
        error.value
    )
    assert not (tmp_path / "films").exists()


def test_what_the_pipeline_was_deployed_with_may_be_anything(compiling):
    deployed, record = compiling
    (deployed / "deployment.json").write_text(json.dumps({**record, "settings": ["serving=/srv"]}))
    run = worker_client.begin(deployed, "r1", ["seed=2"])
    asked = json.loads((run / "pipeline.json").read_text())
    assert asked[-4:] == ["--set", "serving=/srv", "--set", "seed=2"]


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
def test_what_one_run_may_set_reaches_the_compiler(compiling, setting):
    run = worker_client.begin(compiling[0], "r1", [setting])
    assert json.loads((run / "pipeline.json").read_text())[-2:] == ["--set", setting]


def test_settings_need_the_config(deployed):
    with pytest.raises(ValueError, match="without its config"):
        worker_client.begin(deployed, "r1", ["tuner.trials=3"])


def test_settings_compile_the_pipeline_anew_for_this_run(compiling):
    deployed, record = compiling
    (deployed / "deployment.json").write_text(json.dumps({**record, "settings": ["seed=1"]}))
    with pytest.raises(ValueError, match="`trials` is no number"):
        worker_client.begin(deployed, "r1", ["tuner.trials=no"])
    run = worker_client.begin(deployed, "r1", ["tuner.trials=3"])
    asked = json.loads((run / "pipeline.json").read_text())
    assert asked[:4] == [
        "-m",
        "tfrec_meta.pipeline.runners.local_runner",
        "--config",
        "/films.yaml",
    ]
    assert asked[-4:] == ["--set", "seed=1", "--set", "tuner.trials=3"]
    assert [path.name for path in run.iterdir()] == ["pipeline.json"]
