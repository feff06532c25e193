"""The display of a search, on a terminal and in other streams."""

import io
import logging
import re
import sys

import pytest

from tests.tuning.study_samples import SPACE, header, trial
from tfrec_meta.tuning.display.live_table import SearchDisplay
from tfrec_meta.tuning.studies.trial_records import default_values

DEFAULT = default_values(SPACE)
LARGE = {**DEFAULT, "two_tower/embedding_dim": 128, "two_tower/training/learning_rate": 0.02}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def on_terminal(trials, total=10, width=120, head=None, done=(), seconds=0.0):
    """Returns the last frame of the table, and the text printed below it."""
    out, clock = io.StringIO(), Clock()
    display = SearchDisplay(
        head or header(), total, done=done, stream=out, terminal=True, width=width, clock=clock
    )
    with display:
        for record in trials:
            clock.now += seconds
            display.trial_ended(record)
    frames = re.split(r"(?:\x1b\[2K(?:\x1b\[1A)?)+", out.getvalue())
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frames[-1])


def in_a_file(trials, total=10, **options):
    out = io.StringIO()
    with SearchDisplay(options.pop("head", header()), total, stream=out, **options) as display:
        for record in trials:
            display.trial_ended(record)
    return out.getvalue().splitlines()


def test_a_file_gets_one_line_per_trial_and_the_best_trial():
    trials = [
        trial(0, DEFAULT, 0.25, seconds=1.25),
        trial(1, LARGE, 0.3, seconds=2.0),
        trial(2, DEFAULT, None, error="ValueError: no such thing", seconds=0.5),
        trial(3, DEFAULT, None, status="timed_out", error="longer than 60 s", seconds=60.0),
        trial(4, DEFAULT, 0.1, status="stopped", seconds=0.5),
    ]
    assert in_a_file(trials) == [
        "trial 1/10: val_ndcg@10 0.2500, best 0.2500, 1.2 s",
        "trial 2/10: val_ndcg@10 0.3000, best 0.3000, 2.0 s",
        "trial 3/10: val_ndcg@10 none, best 0.3000, 0.5 s (failed: ValueError: no such thing)",
        "trial 4/10: val_ndcg@10 none, best 0.3000, 60.0 s (timed out: longer than 60 s)",
        "trial 5/10: val_ndcg@10 0.1000, best 0.3000, 0.5 s (stopped early)",
        "best of 5 trials: trial 0001, val_ndcg@10 0.3000",
        "  two_tower/embedding_dim = 128 (default 64)",
        "  two_tower/training/learning_rate = 0.02 (default 0.005)",
    ]


def test_errors_are_minimised():
    head = header(objective="val_rmse", direction="min")
    lines = in_a_file([trial(0, DEFAULT, 0.9), trial(1, LARGE, 1.0)], head=head)
    assert lines[1].startswith("trial 2/10: val_rmse 1.0000, best 0.9000")
    assert lines[2:] == [
        "best of 2 trials: trial 0000, val_rmse 0.9000",
        "  the default hyperparameters",
    ]


def test_a_continued_search_counts_earlier_trials():
    lines = in_a_file([trial(1, DEFAULT, 0.2)], done=[trial(0, LARGE, 0.3)])
    assert lines[0] == "trial 2/10: val_ndcg@10 0.2000, best 0.3000, 12.5 s"


def test_a_repeated_trial_replaces_its_record():
    lines = in_a_file([trial(0, DEFAULT, None), trial(0, DEFAULT, 0.2)])
    assert lines[1].startswith("trial 1/10: val_ndcg@10 0.2000")


def test_failed_trials_have_no_best():
    assert in_a_file([trial(0, DEFAULT, None)])[-1] == "None of 1 trials has a value."


def test_without_trials_nothing_is_printed():
    assert in_a_file([]) == []


def test_the_table_shows_the_last_trials_the_best_one_and_a_bar():
    trials = [trial(n, DEFAULT, 0.2 + n / 1e4) for n in range(12)]
    trials[1] = trial(1, LARGE, 0.3, suggested_by="prior", seconds=7.5)
    trials[11] = trial(11, LARGE, None, error="ValueError: no such thing")
    picture = on_terminal(trials, total=20, seconds=30.0)
    lines = picture.splitlines()
    assert lines[0].split() == [
        "trial",
        "by",
        "value",
        "best",
        "seconds",
        "status",
        "changes",
        "from",
        "the",
        "default",
    ]
    numbers = [line.split()[0] for line in lines[1:10]]
    assert numbers == ["0001", *(f"{n:04d}" for n in range(4, 12))]  # the best, then the last 8
    assert lines[1].split()[:6] == ["0001", "prior", "0.3000", "0.3000", "7.5", "best"]
    assert "two_tower/embedding_dim=128 learning_rate=0.02" in lines[1]
    assert "done" in lines[2]
    assert "the default" in lines[2]
    assert "failed" in lines[9]
    assert "ValueError: no such thing" in lines[9]
    # 12 trials in 6 minutes: the other 8 take 4.
    assert lines[10].startswith("val_ndcg@10, trial 12/20 ━")
    assert lines[10].rstrip().endswith("6:00 elapsed, about 4:00 left")
    assert lines[11] == "best of 12 trials: trial 0001, val_ndcg@10 0.3000"
    assert lines[12] == "  two_tower/embedding_dim = 128 (default 64)"


def test_earlier_trials_do_not_change_the_estimate_of_the_remaining_time():
    done = [trial(n, DEFAULT, 0.2) for n in range(6)]
    picture = on_terminal([trial(6, DEFAULT, 0.2)], total=8, done=done, seconds=3600.0)
    assert "1:00:00 elapsed, about 1:00:00 left" in picture


def test_before_the_first_trial_there_is_no_estimate():
    assert "no estimate yet" in on_terminal([])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width):
    values = {**LARGE, "two_tower/hidden_layer": True, "two_tower/loss": "bpr"}
    trials = [trial(n, values, 0.2, error=None) for n in range(3)]
    picture = on_terminal(trials, width=width)
    table = picture.split("best of")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= width
    assert len(table.splitlines()) == 5  # a header, a line per trial, and the bar


def test_many_changes_are_counted():
    space_values = {
        "family": "two_tower",
        "two_tower/embedding_dim": 16,
        "two_tower/hidden_layer": True,
        "two_tower/loss": "softmax",
        "two_tower/label_smoothing": 0.1,
        "two_tower/training/learning_rate": 0.001,
        "two_tower/training/rows": "events",
    }
    assert "label_smoothing=0.1 learning_rate=0.001 +1" in on_terminal(
        [trial(0, space_values, 0.2)], width=200
    )


def test_logs_appear_above_the_table_and_return_to_their_stream(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    handler = logging.StreamHandler()
    logger = logging.getLogger("a training")
    logger.addHandler(handler)
    try:
        with SearchDisplay(header(), 2, terminal=True, width=80) as display:
            assert handler.stream is not out
            display.trial_ended(trial(0, DEFAULT, 0.2))
            logger.warning("a warning")
        assert handler.stream is out
        assert sys.stderr is out
    finally:
        logger.removeHandler(handler)
    text = out.getvalue()
    # The line replaces the erased table, which is drawn again below it.
    assert re.search(r"\x1b\[2Ka warning\n", text)


HOSTILE = "[red]\x1b[2J\x07\r\nsecond [/nothing]\ud800"


@pytest.mark.parametrize("terminal", [True, False])
def test_text_of_records_is_neither_control_characters_nor_markup(terminal):
    out = io.StringIO()
    record = trial(0, DEFAULT, None, trial_id=HOSTILE, error=HOSTILE, suggested_by=HOSTILE)
    with SearchDisplay(header(objective=HOSTILE), 1, stream=out, terminal=terminal, width=300) as d:
        d.trial_ended(record)
    written = out.getvalue()
    assert "\x1b[2J" not in written
    assert "\x07" not in written
    assert "[red]" in written
    assert "\nsecond" not in written
    out.getvalue().encode("utf-8")


def test_an_ascii_stream_gets_ascii():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    with SearchDisplay(header(), 1, stream=out) as display:
        display.trial_ended(trial(0, DEFAULT, None, error="ValueError: 映画"))
    out.flush()
    assert b"ValueError: ??" in raw.getvalue()


def test_an_interrupted_search_restores_the_terminal():
    out = io.StringIO()
    display = SearchDisplay(header(), 2, stream=out, terminal=True, width=80)

    def search():
        with display:
            display.trial_ended(trial(0, DEFAULT, 0.2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search()
    assert "\x1b[?25h" in out.getvalue()  # the cursor is shown again
    assert "best of 1 trials" in out.getvalue()
