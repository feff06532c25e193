"""The shortened log."""

import logging

from tfrec_meta.pipeline.runners import logs


def test_drops_noise_and_shortens_long_messages():
    def shown(level, text):
        record = logging.LogRecord("absl", level, "", 0, text, (), None)
        return record.getMessage() if logs.Shorten().filter(record) else None

    assert shown(logging.INFO, "Running launcher for node_info {\n type {\n}") == (
        "Running launcher for node_info { …"
    )
    assert len(shown(logging.INFO, "x" * 1000)) == 302
    assert shown(logging.WARNING, "Fallback to non-ZetaSQL contexts") is None
    assert shown(logging.ERROR, "why:\nthis") == "why:\nthis"
