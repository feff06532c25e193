"""What loads and answers passes; what does not is refused in time, and its process is gone."""

import os
import re
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import tfrec_meta as tm
from tests.pipeline import gate_toys
from tfrec_meta.pipeline.components import server_probe as trial_serving
from tfrec_meta.pipeline.components.server_probe import Refused, try_out
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
    """A SavedModel that loads, and then never answers."""

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
    """What came of three models; two servers start at once, since that takes them seconds."""
    damaged = folder_with(tmp_path_factory.mktemp("damaged"), b"\xff no SavedModel")
    before, began = children(), time.monotonic()

    def outcome(model: Path, seconds: float) -> object:
        try:
            return try_out(model, EXAMPLES, seconds, 8192)
        except Refused as refusal:
            return refusal

    with futures.ThreadPoolExecutor() as pool:
        found = {
            "exported": pool.submit(outcome, exported, 200),
            "damaged": pool.submit(outcome, damaged, 200),
        }
        done = {name: future.result() for name, future in found.items()}
    # Long enough to load on this machine as it is now, alone.
    limit = round(1.5 * (time.monotonic() - began))
    began = time.monotonic()
    done |= {"limit": limit, "endless": outcome(endless, limit)}
    done["seconds"] = time.monotonic() - began
    assert children() == before
    return done


def test_an_exported_model_answers_its_warm_up_and_the_samples(outcomes):
    # 4 warm-up requests; of two signatures all samples at once and one by one.
    assert outcomes["exported"] == 4 + 2 * (1 + 3)


def test_a_saved_model_that_does_not_load_is_refused(outcomes):
    found = outcomes["damaged"]
    assert isinstance(found, Refused)
    assert re.match("it does not load: .*SavedModel", str(found))


def test_a_saved_model_that_never_answers_is_refused_in_time(outcomes):
    assert isinstance(outcomes["endless"], Refused)
    limit = outcomes["limit"]
    assert str(outcomes["endless"]) == f"it did not answer everything within {limit} seconds"
    assert outcomes["seconds"] < limit + 3


def test_a_folder_without_a_saved_model_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"it has no saved_model\.pb"):
        try_out(tmp_path, EXAMPLES, 1, 8192)


@pytest.mark.parametrize("code", ["import time; time.sleep(600)", PRINTS_AND_HANGS])
def test_a_server_that_hangs_is_ended_in_time(tmp_path, code):
    before, began = children(), time.monotonic()
    with pytest.raises(Refused, match=r"within 0\.5 seconds"):
        try_out(folder_with(tmp_path), EXAMPLES, 0.5, 8192, (sys.executable, "-c", code))
    assert time.monotonic() - began < 5
    assert children() == before


def test_a_server_that_needs_too_much_memory_is_ended(tmp_path):
    code = "import time; hold = bytearray(400 << 20); time.sleep(600)"
    with pytest.raises(Refused, match=r"its server needs \d+ MB, more than 256"):
        try_out(folder_with(tmp_path), EXAMPLES, 30, 256, (sys.executable, "-c", code))


def test_a_servers_own_children_are_ended_with_it(tmp_path):
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    with pytest.raises(Refused):
        try_out(folder_with(tmp_path), EXAMPLES, 1, 8192, (sys.executable, "-c", code))
    child = Path("/proc", (tmp_path / "child").read_text())
    end = time.monotonic() + 5
    while child.exists() and "Z" not in (child / "stat").read_text().rpartition(")")[2].split()[0]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_server_that_ends_says_why(tmp_path):
    code = "import sys; sys.exit('no room left')"
    with pytest.raises(Refused, match="it does not load: no room left"):
        try_out(folder_with(tmp_path), EXAMPLES, 30, 8192, (sys.executable, "-c", code))


def test_the_server_ends_with_its_parent():
    """Killed, we can't end it; its closed standard input does."""
    code = trial_serving._SERVE.replace(
        "from tfrec_meta.serving.server import serve", "import time"
    ).replace("serve(sys.argv[1], port=0)", "time.sleep(600)")
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(20) == 1


def answers(signature="recommend", rows=1, **outputs):
    request = trial_serving.predict_pb2.PredictRequest()
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u"] * rows))
    arrays = {
        name: np.array(value, np.object_ if name == "item_id" else np.float32)
        for name, value in outputs.items()
    }
    trial_serving._check(signature, request, arrays, frozenset({b"a", b"b", b"c"}))


def test_blanks_past_a_rows_own_k_are_an_answer():
    answers(item_id=[[b"a", b"b", b""]], score=[[0.5, 0.25, -np.inf]])


@pytest.mark.parametrize(
    "outputs, words",
    [
        ({"item_id": [[b"a", b"b"]], "score": [[1, np.nan]]}, "a score that is no number: nan"),
        ({"item_id": [[b"a", b"b"]], "score": [[1, -np.inf]]}, "a score that is no number: -inf"),
        ({"item_id": [[b"a", b"z"]], "score": [[2, 1]]}, "recommends 'z', which its catalogue"),
        ({"item_id": [[b"a", b"a"]], "score": [[2, 1]]}, "an item twice in one list"),
        ({"item_id": [[b"", b""]], "score": [[-np.inf, -np.inf]]}, "recommends nothing to anyone"),
        ({"item_id": [[b"a", b"b"]], "score": [[1]]}, r"scores of shape \[1, 1\] for items of"),
        ({"score": [1.0, 2.0]}, r"answers 1 rows with `score` of shape \[2\]"),
        ({"score": 1.0}, r"answers 1 rows with `score` of shape \[\]"),
        ({"item_id": np.empty((1, 0))}, "recommends nothing to anyone"),
    ],
)
def test_an_answer_that_no_client_could_use_is_refused(outputs, words):
    with pytest.raises(Refused, match=words):
        answers(**outputs)


@pytest.mark.parametrize(
    "outputs, words",
    [
        ({"item_id": np.array([[1, 2]])}, "items of type int64"),
        ({"score": np.array([[b"high"]], np.object_)}, "scores of type object"),
    ],
)
def test_an_answer_of_another_type_is_refused(outputs, words):
    request = trial_serving.predict_pb2.PredictRequest()
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u"]))
    with pytest.raises(Refused, match=words):
        trial_serving._check("recommend", request, outputs, None)


def asked_with(histories, lists, catalogue=frozenset({b"a", b"b", b"c"}), exclude=()):
    """The lists are what `serving_default` answers to users with these histories."""
    request = trial_serving.predict_pb2.PredictRequest()
    records = [messages.example({"history": h, "exclude": list(exclude)}) for h in histories]
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto(records))
    outputs = {"item_id": np.array(lists, np.object_)}
    trial_serving._check("serving_default", request, outputs, catalogue)


def test_a_user_who_met_the_whole_catalogue_gets_an_empty_list():
    asked_with([["a", "b", "c"]], [[b"", b""]])
    asked_with([["b", "gone", "a"]], [[b"", b""]], exclude=["c"])
    asked_with([["a", "b", "c"], ["a"]], [[b"", b""], [b"b", b""]])


@pytest.mark.parametrize(
    "histories, lists, catalogue",
    [
        ([["a", "b"]], [[b"", b""]], {b"a", b"b", b"c"}),
        ([["a", "b", "c"], ["a"]], [[b"", b""], [b"", b""]], {b"a", b"b", b"c"}),
        ([["a", "b", "c"]], [[b"", b""]], None),
        ([["a", "b", "c"]], [[b"", b""]], set()),
    ],
)
def test_an_empty_list_for_a_user_who_has_items_left_is_refused(histories, lists, catalogue):
    known = None if catalogue is None else frozenset(catalogue)
    with pytest.raises(Refused, match="recommends nothing to anyone"):
        asked_with(histories, lists, known)


def test_histories_in_tensors_count_as_those_in_examples():
    request = trial_serving.predict_pb2.PredictRequest()
    request.inputs["history"].CopyFrom(tf.make_tensor_proto([["a", "b", "c", ""]]))
    outputs = {"item_id": np.array([[b""]], np.object_)}
    trial_serving._check("recommend", request, outputs, frozenset({b"a", b"b", b"c"}))
    with pytest.raises(Refused, match="recommends nothing to anyone"):
        trial_serving._check("recommend", request, outputs, frozenset({b"a", b"d"}))


def test_a_support_set_of_the_whole_catalogue_leaves_nothing_to_recommend():
    request = trial_serving.predict_pb2.PredictRequest()
    request.model_spec.signature_name = "adapt"
    request.inputs["item_id"].CopyFrom(tf.make_tensor_proto([["a", "b", "c", ""]]))
    outputs = {"item_id": np.array([[b""]], np.object_)}
    trial_serving._check("adapt", request, outputs, frozenset({b"a", b"b", b"c"}))
    with pytest.raises(Refused, match="`adapt` recommends nothing to anyone"):
        trial_serving._check("adapt", request, outputs, frozenset({b"a", b"d"}))


@pytest.mark.parametrize(
    "value, words",
    [(None, "has no inputs"), ("u", "has inputs without rows")],
)
def test_a_request_without_rows_is_refused(value, words):
    request = trial_serving.predict_pb2.PredictRequest()
    if value is not None:
        request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(value))
    with pytest.raises(Refused, match=f"a warm-up request for `recommend` {words}"):
        trial_serving._check("recommend", request, {}, None)


def test_a_request_of_no_tf_examples_is_refused():
    request = trial_serving.predict_pb2.PredictRequest()
    request.inputs["examples"].CopyFrom(tf.make_tensor_proto([b"\xff"]))
    outputs = {"item_id": np.array([[b""]], np.object_)}
    with pytest.raises(Refused, match=r"a request's `examples` are no tf\.Examples"):
        trial_serving._check("serving_default", request, outputs, None)


def broken_catalogue(path, how):
    if how == "damaged":
        path.write_bytes(b"PAR1 no Parquet PAR1")
    elif how == "without ids":
        pq.write_table(pa.table({"title": ["x"]}), path)
    else:
        pq.write_table(pa.table({"item_id": [["a"]]}), path)


@pytest.mark.parametrize("how", ["damaged", "without ids", "lists for ids"])
def test_a_catalogue_that_cannot_be_read_is_refused(tmp_path, how):
    (tmp_path / "assets.extra").mkdir()
    broken_catalogue(tmp_path / "assets.extra" / "catalogue.parquet", how)
    with pytest.raises(Refused, match=r"its catalogue\.parquet can't be read: ."):
        trial_serving._catalogue(tmp_path)
