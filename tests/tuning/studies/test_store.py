"""The store of studies: written records are read, whatever happens to writers and files."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tuning.store_samples import failed, study, trial
from tfrec_meta.tuning.studies.records import COMPARED
from tfrec_meta.tuning.studies.store import StudyStore, studies_folder

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path) -> StudyStore:
    store = StudyStore(tmp_path / "store")
    store.append_study(study())
    return store


def read(store: StudyStore) -> dict[str, list[dict]]:
    """Study id -> trials, read by a new store object."""
    return {one.study_id: list(one.trials) for one in StudyStore(store.folder).studies()}


def ids(store: StudyStore) -> dict[str, list[str]]:
    return {name: [one["trial_id"] for one in trials] for name, trials in read(store).items()}


def add_line(store: StudyStore, line: bytes) -> None:
    with open(store.path, "ab") as file:
        file.write(line)


def start(code: str, *arguments: object) -> subprocess.Popen:
    """Starts a process with the store and the samples."""
    head = "import os, sys, time\nsys.path[:0] = ['.']\n"
    head += "from tfrec_meta.tuning.studies.store import StudyStore\n"
    head += "from tests.tuning.store_samples import study, trial\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


# Writing and reading.


def test_a_study_and_its_trials_are_read_as_written(store):
    store.append_trial(trial("0"))
    store.append_trial(failed("1"))
    (found,) = StudyStore(store.folder).studies()
    assert found.header() == study()
    assert found.trials == (trial("0"), failed("1"))
    assert len(store.path.read_bytes().splitlines()) == 3


def test_an_unused_store_is_empty_and_creates_no_folder(tmp_path):
    store = StudyStore(tmp_path / "nothing")
    assert store.studies() == []
    assert store.compact() == 0
    assert not store.folder.exists()


def test_the_last_record_of_a_study_and_of_a_trial_counts(store):
    store.append_study(study("two"))
    store.append_trial(trial("0", value=0.1))
    store.append_trial(trial("1", value=0.2))
    store.append_trial(trial("0", value=0.3))
    store.append_study(study(budget=16))
    two, one = store.studies()  # in the order of their last headers
    assert (two.study_id, one.study_id, one.budget) == ("two", "one", 16)
    assert [(t["trial_id"], t["value"]) for t in one.trials] == [("1", 0.2), ("0", 0.3)]


def test_a_header_and_its_trials_are_written_together(tmp_path):
    store = StudyStore(tmp_path)
    with pytest.raises(ValueError, match="`seconds`=-1"):
        store.append_study(study(), [trial("0"), trial("1", seconds=-1)])
    assert store.studies() == []
    store.append_study(study(), (trial(name) for name in "01"))
    assert ids(store) == {"one": ["0", "1"]}


def test_unknown_fields_are_kept(store):
    store.append_trial(trial(colour="blue"))
    store.compact()
    assert read(store)["one"][0]["colour"] == "blue"


def test_trials_with_a_value_are_ranked_by_the_direction(store):
    for name, value in (("0", 0.2), ("1", 0.3), ("2", 0.3)):
        store.append_trial(trial(name, value=value))
    store.append_trial(failed("3"))
    assert [t["trial_id"] for t in store.study("one").ranked()] == ["1", "2", "0"]
    store.append_study(study(direction="min"))
    assert [t["trial_id"] for t in store.study("one").ranked()] == ["0", "1", "2"]


def test_a_study_was_last_updated_when_its_last_trial_ended(store):
    assert store.study("one").last_updated().isoformat() == "2026-01-31T12:00:00+00:00"
    store.append_trial(trial("0", ended="2026-02-02T08:00:00Z"))
    store.append_trial(trial("1", ended="2026-02-01T08:00:00Z"))
    assert store.study("one").last_updated().isoformat() == "2026-02-02T08:00:00+00:00"


def test_the_folder_is_given_or_from_the_environment_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("TFREC_META_STUDIES", str(tmp_path / "from_environment"))
    assert StudyStore(tmp_path / "given").folder == tmp_path / "given"
    assert StudyStore().folder == tmp_path / "from_environment"
    monkeypatch.delenv("TFREC_META_STUDIES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert studies_folder() == tmp_path / "tfrec-meta" / "studies"


# Finding, comparing, removing.


def test_a_study_is_found_by_a_unique_start_of_its_id(tmp_path):
    store = StudyStore(tmp_path)
    for name in ("abc1", "abd2", "abc"):
        store.append_study(study(name))
    assert store.study("abd").study_id == "abd2"
    assert (
        store.study("abc").study_id == "abc"
    )  # a complete id wins, although another id starts with it
    with pytest.raises(
        ValueError, match=r"3 studies start with 'ab': abc1, abd2, abc\. Use a longer"
    ):
        store.study("ab")
    for unknown in ("x", ""):
        with pytest.raises(ValueError, match=rf"no study '{unknown}'; use .*: abc1, abd2, abc\."):
            store.study(unknown)


def test_an_empty_store_has_no_study_to_find(tmp_path):
    with pytest.raises(ValueError, match=r"no study 'x'; use the id of a study: none\."):
        StudyStore(tmp_path).study("x")


@pytest.mark.parametrize(
    "field, other",
    [
        ("space_version", 2),
        ("objective", "val_auc"),
        ("direction", "min"),
        ("protocol", "leave-last-out"),
        ("budget_unit", "steps"),
    ],
)
def test_studies_with_another_measure_are_not_comparable(store, field, other):
    assert field in COMPARED
    new = study("new")
    assert [one.study_id for one in store.comparable(new)] == ["one"]
    assert store.comparable({**new, field: other}) == []


def test_a_study_is_comparable_with_another_study_of_the_same_data(store):
    store.append_study(study("again", oracle="random"))
    (found,) = store.comparable(study())
    assert (found.study_id, found.data["fingerprint"]) == ("again", "f1")


def test_removed_records_are_gone_and_may_be_written_again(store):
    store.append_study(study("two"), [trial(name, "two") for name in "0123"])
    store.append_trial(trial("0"))
    store.remove("tw", "0")
    store.remove("two", ["1", "3"])
    assert ids(store) == {"one": ["0"], "two": ["2"]}
    store.remove("two")
    assert ids(store) == {"one": ["0"]}
    store.append_study(study("two"))
    store.append_trial(trial("0", "two"))
    assert ids(store) == {"one": ["0"], "two": ["0"]}


def test_removing_an_unknown_study_or_trial_is_refused(store):
    with pytest.raises(ValueError, match="no study 'three'"):
        store.remove("three")
    with pytest.raises(ValueError, match="Study one has no trial '7', '8'"):
        store.remove("one", ["7", "8"])


def test_compaction_drops_replaced_and_removed_lines(store):
    store.append_study(study("gone"), [trial("0", "gone")])
    for value in (0.1, 0.2, 0.3):
        store.append_trial(trial("0", value=value))
    store.append_trial(trial("1"))
    store.remove("one", "1")
    store.remove("gone")
    before = read(store)
    # A study and its trial, two replaced values, a removed trial, and two removals.
    assert store.compact() == 7
    assert read(store) == before == {"one": [trial("0", value=0.3)]}
    assert len(store.path.read_bytes().splitlines()) == 2
    assert store.compact() == 0
    assert sorted(path.name for path in store.folder.iterdir()) == ["studies.jsonl", "studies.lock"]


# Damaged files.

NAN = float("nan")

DAMAGED = {
    "half a line": json.dumps(trial()).encode()[:57],
    "not JSON": b"{'kind': 'trial'}",
    "not an object": b"[1, 2]",
    "not UTF-8": b'{"kind": "\xff\xfe"}',
    "zeros of a disk that lost power": b"\0" * 64,
    "no known kind": json.dumps({**trial(), "kind": "wish"}).encode(),
    "no kind": b"{}",
    "a missing field": json.dumps({"kind": "trial", "study_id": "one"}).encode(),
    "a wrong type": json.dumps(trial(budget="2")).encode(),
    "NaN": json.dumps(trial(value=NAN)).encode(),
    "NaN below": json.dumps(trial(curve=[0.1, NAN])).encode(),
    "a number beyond all": json.dumps(trial()).replace('"value": 0.25', '"value": 1e999').encode(),
    "brackets without end": b"[" * 100_000,
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED.keys())
def test_an_invalid_line_is_left_out_with_one_warning(store, line, caplog):
    store.append_trial(trial("0"))
    add_line(store, line + b"\n")
    store.append_trial(trial("1"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [t["trial_id"] for t in store.study("one").trials] == ["0", "1"]
    (message,) = caplog.messages
    assert message.startswith(f"{store.path}: 1 invalid line(s) left out. The first is line 3: ")
    assert line in store.path.read_bytes()
    assert store.compact() == 1
    assert (store.folder / "damaged.jsonl").read_bytes() == line + b"\n"
    caplog.clear()
    assert ids(store) == {"one": ["0", "1"]}
    assert not caplog.messages


def test_a_record_after_half_a_line_starts_a_new_line(store, caplog):
    add_line(store, json.dumps(trial("0")).encode()[:-9])
    store.append_trial(trial("1"))
    assert ids(store) == {"one": ["1"]}
    assert "line 2: not JSON" in caplog.messages[0]


def test_a_line_without_its_line_break_counts(store, caplog):
    add_line(store, json.dumps(trial("0")).encode())
    assert ids(store) == {"one": ["0"]}
    store.append_trial(trial("1"))
    assert ids(store) == {"one": ["0", "1"]}
    assert not caplog.messages


def test_a_file_truncated_anywhere_keeps_its_complete_lines(store):
    store.append_trial(trial("0"))
    whole = store.path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        store.path.write_bytes(whole[:size])
        store.append_trial(trial("2"))
        kept = ["0"] if size >= len(whole) - 1 else []
        assert ids(store) == ({"one": [*kept, "2"]} if size >= first - 1 else {})


def test_studies_of_a_newer_version_are_left_out_and_kept_in_the_file(store, caplog):
    newer = {"kind": "study", "study_id": "new", "schema": 4, "shape": "other"}
    of_it = {"kind": "trial", "study_id": "new", "result": [1, 2]}
    note = {"kind": "note", "study_id": "one", "schema": 3, "text": "unknown"}
    lines = [json.dumps(one).encode() for one in (newer, of_it, note)]
    add_line(store, b"\n".join(lines) + b"\n")
    store.append_trial(trial("0"))
    with caplog.at_level(logging.WARNING):
        assert ids(store) == {"one": ["0"]}
    assert caplog.messages == [
        f"{store.path}: 3 line(s) of schema 3, 4 left out; this version reads schemas up to 2. "
        "Upgrade tfrec-meta to use them."
    ]
    assert store.compact() == 0
    assert all(line in store.path.read_bytes().splitlines() for line in lines)


def test_a_study_continued_by_a_newer_version_is_left_out_completely(store):
    store.append_trial(trial("0"))
    add_line(store, json.dumps(study(schema=3)).encode() + b"\n")
    store.append_trial(trial("1"))
    assert ids(store) == {}
    assert store.compact() == 0
    assert len(store.path.read_bytes().splitlines()) == 4


def test_trials_without_a_header_appear_with_the_header(tmp_path, caplog):
    store = StudyStore(tmp_path)
    store.append_trial(trial("0"))
    assert store.studies() == []
    assert caplog.messages == [f"{store.path}: 1 trial(s) of studies without a header left out."]
    store.compact()
    store.append_study(study())
    assert ids(store) == {"one": ["0"]}


def test_a_full_disk_is_an_error_and_leaves_no_half_line(store, monkeypatch):
    before, write = store.path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda file, text: write(file, text[:20]))
    with pytest.raises(OSError, match="20 of"):
        store.append_trial(trial("0"))
    assert store.path.read_bytes() == before


def test_a_read_only_folder_is_read(store, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(13, "no")

    monkeypatch.setattr("tfrec_meta.tuning.studies.store.FileLock", refused)
    assert [one.study_id for one in store.studies()] == ["one"]
    with pytest.raises(PermissionError):
        store.append_trial(trial("0"))


def test_a_lock_held_for_too_long_is_an_error(store, monkeypatch):
    monkeypatch.setattr("tfrec_meta.tuning.studies.store._PATIENCE", 0.05)
    with (
        store._locked(),
        pytest.raises(TimeoutError, match=r"Another process has held .*studies\.lock"),
    ):
        StudyStore(store.folder).append_trial(trial("0"))


# Several processes.


def test_concurrent_writers_and_a_compaction_lose_nothing(store):
    writer = (
        "store, me = StudyStore(sys.argv[1]), sys.argv[2]\n"
        "store.append_study(study(me))\n"
        "for number in range(40): store.append_trial(trial(str(number), me))\n"
        "store.remove(me, '7')\n"
    )
    compactor = "for _ in range(30): StudyStore(sys.argv[1]).compact(); time.sleep(0.01)\n"
    processes = [start(writer, store.folder, name) for name in "abc"]
    processes.append(start(compactor, store.folder))
    assert [process.wait(60) for process in processes] == [0] * 4
    wanted = [str(number) for number in range(40) if number != 7]
    found = ids(store)
    assert found.pop("one") == []
    assert found == dict.fromkeys("abc", wanted)


def test_concurrent_threads_lose_nothing(store):
    names = [str(number) for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: store.append_trial(trial(name)), names))
    assert sorted(ids(store)["one"]) == sorted(names)


def test_a_killed_writer_loses_no_written_record(store):
    code = (
        "store = StudyStore(sys.argv[1])\n"
        "for number in range(10**6):\n"
        "    store.append_trial(trial(str(number), error='x' * 20_000))\n"
        "    print(number, flush=True)\n"
        "    if number % 5 == 4: store.compact()\n"
    )
    for wait in (0.0, 0.013, 0.05):
        process = start(code, store.folder)
        assert process.stdout.readline() == "0\n"
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        written = [0, *map(int, process.communicate()[0].split())]
        found = ids(store)["one"]
        assert set(map(str, written)) <= set(found)
        store.append_trial(trial("after"))  # the lock died with the process
        assert "after" in ids(store)["one"]


def test_a_writer_killed_within_a_line_loses_only_that_line(store):
    code = (
        "import signal\n"
        "store, write = StudyStore(sys.argv[1]), os.write\n"
        "store.append_trial(trial('0'))\n"
        "def killed(file, text):\n"
        "    write(file, text[:99])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.write = killed\n"
        "store.append_trial(trial('1'))\n"
    )
    assert start(code, store.folder).wait(60) == -signal.SIGKILL
    store.append_trial(trial("2"))
    assert ids(store) == {"one": ["0", "2"]}


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_killed_compaction_does_not_change_the_file(store, moment):
    store.append_trial(trial("0"))
    store.append_trial(trial("0"))
    before = store.path.read_bytes()
    code = (
        "import signal\n"
        "def killed(*args): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"os.{moment} = killed\n"
        "StudyStore(sys.argv[1]).compact()\n"
    )
    assert start(code, store.folder).wait(60) == -signal.SIGKILL
    assert store.path.read_bytes() == before
    assert store.compact() == 1
    assert ids(store) == {"one": ["0"]}


def test_tensorflow_is_not_loaded():
    code = "print(sorted({'tensorflow', 'keras_tuner', 'tf_keras'} & set(sys.modules)))"
    assert start(code).communicate()[0] == "[]\n"


def test_a_large_store_is_read_quickly(tmp_path):
    store = StudyStore(tmp_path)
    store.append_study(study())
    line = json.dumps(trial("NUMBER", strategy=None)).encode()
    with open(store.path, "ab") as file:
        file.writelines(line.replace(b"NUMBER", b"%d" % n) + b"\n" for n in range(60_000))
    began = time.process_time()
    assert len(store.study("one").trials) == 60_000
    assert time.process_time() - began < 4  # seconds of CPU time; 1 to 2 on an idle machine


# Random histories against a dict.

NAMES = st.sampled_from(["a", "b", "ab"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("study"), NAMES, st.integers(0, 3)),
        st.tuples(st.just("trial"), NAMES, st.sampled_from("01"), st.floats(0, 1)),
        st.tuples(st.just("remove"), NAMES),
        st.tuples(st.just("remove"), NAMES, st.sampled_from("01")),
        st.tuples(st.just("compact")),
        st.tuples(st.just("half"), st.integers(1, 300)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_any_history_matches_a_dict(tmp_path_factory, steps):
    store = StudyStore(tmp_path_factory.mktemp("history"))
    headers: dict = {}
    trials: dict = {}
    for step in steps:
        if step[0] == "study":
            _, name, budget = step
            store.append_study(study(name, budget=budget))
            headers.pop(name, None)
            headers[name] = budget
        elif step[0] == "trial":
            _, name, number, value = step
            store.append_trial(trial(number, name, value=value))
            trials.setdefault(name, {}).pop(number, None)
            trials[name][number] = value
        elif step[0] == "compact":
            store.compact()
        elif step[0] == "half":
            if store.path.exists():
                add_line(store, json.dumps(trial("half")).encode()[: step[1]])
        else:
            _, name, *number = step
            known = name in headers and (not number or number[0] in trials.get(name, {}))
            if not known:
                if name in headers:
                    with pytest.raises(ValueError, match="has no trial"):
                        store.remove(name, number[0])
            elif number:
                store.remove(name, number[0])
                del trials[name][number[0]]
            else:
                store.remove(name)
                del headers[name]
                trials.pop(name, None)
    found = {
        one.study_id: (one.budget, [(t["trial_id"], t["value"]) for t in one.trials])
        for one in store.studies()
    }
    wanted = {n: (budget, list(trials.get(n, {}).items())) for n, budget in headers.items()}
    assert found == wanted
    assert list(found) == list(wanted)
