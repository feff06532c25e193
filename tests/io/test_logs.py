"""Control characters of other people's data reach no terminal through a log."""

import logging
import re
from pathlib import Path

import pytest

import tfrec_meta as tm
from tfrec_meta.io.logs import logger, printable
from tfrec_meta.io.progress import Progress

CLEAR = "\x1b[2J"  # clears a terminal
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("value", [f"a{CLEAR}\nb", Path(f"a{CLEAR}\nb")])
def test_texts_in_messages_are_escaped(caplog, value):
    logger("tfrec_meta.test").warning("%s has %d rows", value, 3)
    assert caplog.messages == [r"a\x1b[2J\nb has 3 rows"]


def test_errors_in_messages_keep_their_lines(caplog):
    logger("tfrec_meta.test").warning("failed: %s", ValueError(f"one\n{CLEAR}"))
    assert caplog.messages == ["failed: one\n\\x1b[2J"]


def test_other_arguments_stay_as_they_are(caplog):
    logger("tfrec_meta.test").warning("%.2f of %s", 0.5, ["x"])
    logger("tfrec_meta.test").warning("%(k)d", {"k": 7})
    assert caplog.messages == ["0.50 of ['x']", "7"]


def test_a_logger_escapes_once():
    logger("tfrec_meta.test")
    assert len(logger("tfrec_meta.test").filters) == 1


def test_names_of_files_and_columns_are_escaped_while_reading(tmp_path, caplog):
    path = tmp_path / f"log{CLEAR}.csv"
    path.write_text(f"user_id,item_id,rating,x{CLEAR}\nann,tea,3,1\nbob,,3,1\n")
    with caplog.at_level(logging.INFO):
        data = tm.read_interactions(path, bad_rows="drop", max_bad_share=1)
        tm.train(data, "popularity", progress=False)
    assert len(caplog.messages) > 1
    assert not [text for text in caplog.messages if "\x1b" in text]


def test_the_label_of_a_progress_is_escaped():
    assert Progress(f"reading {CLEAR}")._label == r"reading \x1b[2J"


def test_printable_keeps_lines_on_demand():
    assert printable("a\tb\nc\r") == "a\tb\nc\\r"
    assert printable("a\nb", lines=False) == r"a\nb"


def test_every_module_of_the_library_has_such_a_logger():
    plain = re.compile(r"logging\.getLogger\(__name__\)")
    modules = (ROOT / "tfrec_meta").rglob("*.py")  # does not follow the links
    assert not [path for path in modules if plain.search(path.read_text(encoding="utf-8"))]
