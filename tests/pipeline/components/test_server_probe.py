"""A model that loads and answers passes; others are refused in time, and no process remains."""

import os
import re
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

import pytest
import tensorflow as tf

import tfrec_meta as tm
from tests.pipeline import gate_toys
from tfrec_meta.pipeline.components import server_probe
from tfrec_meta.pipeline.components.answer_checks import Refused
from tfrec_meta.pipeline.components.server_probe import probe
from tfrec_meta.serving.protocol import messages

EXAMPLES = [
    messages.example({"user_id": f"u{n}", "item_id": "i3", "history": ["i7", "i11"]})
    for n in range(3)
]
PRINTS_AND_HANGS = "import time; print('listening on 127.0.0.1:9', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    model = gate_toys.trained(gate_toys.tastes_split())
    return tm.export(model, tmp_path_factory.mktemp("trial") / "films")


def children() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    found.add(int(entry.name))
        except OSError:
            pass
    return found


def folder_with(tmp_path, content=b"anything") -> Path:
    (tmp_path / "saved_model.pb").write_bytes(content)
    return tmp_path


@pytest.fixture(scope="module")
def endless(tmp_path_factory) -> Path:
    """A SavedModel that loads and never answers."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def rank_examples(examples):
        length = tf.strings.length(examples)[0]
        forever = tf.while_loop(lambda n: n >= 0, lambda n: n * 0, [length])
        return {"score": tf.cast(forever[0], tf.float32)[None]}

    module, folder = tf.Module(), tmp_path_factory.mktemp("endless") / "1"
    module.rank_examples = rank_examples
    tf.saved_model.save(module, str(folder), {"rank_examples": rank_examples})
    return folder


@pytest.fixture(scope="module")
def outcomes(exported, endless, tmp_path_factory) -> dict[str, object]:
    """The results of three models; two servers start concurrently, to save time."""
    damaged = folder_with(tmp_path_factory.mktemp("damaged"), b"\xff no SavedModel")
    before, began = children(), time.monotonic()

    def outcome(model: Path, seconds: float) -> object:
        try:
            return probe(model, EXAMPLES, seconds, 8192)
        except Refused as refusal:
            return refusal

    with futures.ThreadPoolExecutor() as pool:
        found = {
            "exported": pool.submit(outcome, exported, 200),
            "damaged": pool.submit(outcome, damaged, 200),
        }
        done = {name: future.result() for name, future in found.items()}
    # Long enough to load on this machine under its current load.
    limit = round(1.5 * (time.monotonic() - began))
    began = time.monotonic()
    done |= {"limit": limit, "endless": outcome(endless, limit)}
    done["seconds"] = time.monotonic() - began
    assert children() == before
    return done


@pytest.mark.slow
def test_an_exported_model_answers_warm_up_and_sample_requests(outcomes):
    # 4 warm-up requests; for two signatures all samples together and one by one.
    assert outcomes["exported"] == 4 + 2 * (1 + 3)


@pytest.mark.slow
def test_refuses_a_saved_model_that_does_not_load(outcomes):
    found = outcomes["damaged"]
    assert isinstance(found, Refused)
    assert re.match("it does not load: .*SavedModel", str(found))


@pytest.mark.slow
def test_refuses_a_saved_model_that_never_answers_in_time(outcomes):
    assert isinstance(outcomes["endless"], Refused)
    limit = outcomes["limit"]
    assert str(outcomes["endless"]) == f"it did not answer all requests within {limit} seconds"
    assert outcomes["seconds"] < limit + 3


def test_refuses_a_folder_without_a_saved_model(tmp_path):
    with pytest.raises(Refused, match=r"it has no saved_model\.pb"):
        probe(tmp_path, EXAMPLES, 1, 8192)


@pytest.mark.parametrize("code", ["import time; time.sleep(600)", PRINTS_AND_HANGS])
def test_ends_a_server_that_hangs_in_time(tmp_path, code):
    before, began = children(), time.monotonic()
    with pytest.raises(Refused, match=r"within 0\.5 seconds"):
        probe(folder_with(tmp_path), EXAMPLES, 0.5, 8192, (sys.executable, "-c", code))
    assert time.monotonic() - began < 5
    assert children() == before


def test_ends_a_server_that_needs_too_much_memory(tmp_path):
    code = "import time; hold = bytearray(400 << 20); time.sleep(600)"
    with pytest.raises(Refused, match=r"its server needs \d+ MB, more than 256"):
        probe(folder_with(tmp_path), EXAMPLES, 30, 256, (sys.executable, "-c", code))


def test_ends_the_children_of_a_server(tmp_path):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    with pytest.raises(Refused):
        probe(folder_with(tmp_path), EXAMPLES, 1, 8192, (sys.executable, "-c", code))
    child = Path("/proc", (tmp_path / "child").read_text())
    end = time.monotonic() + 5
    while child.exists() and "Z" not in (child / "stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_reports_why_a_server_ended(tmp_path):
    code = "import sys; sys.exit('no room left')"
    with pytest.raises(Refused, match="it does not load: no room left"):
        probe(folder_with(tmp_path), EXAMPLES, 30, 8192, (sys.executable, "-c", code))


def test_the_server_ends_with_its_parent():
    """A killed parent can't end the server; the closed standard input does."""
    code = server_probe._SERVE.replace(
        "from tfrec_meta.serving.server.server import serve", "import time"
    ).replace("serve(sys.argv[1], port=0)", "time.sleep(600)")
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(20) == 1
