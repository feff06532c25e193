"""The log of TFX, Beam and TensorFlow: into a file, or shortened to standard error."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from absl import logging as absl_logging

import tfrec_meta

# Unhelpful messages that every node logs.
_NOISE = ("MetadataStore with DB connection initialized", "Fallback to non-ZetaSQL")
_LONGEST = 300  # characters of an information message
_PACKAGE = os.path.dirname(os.path.abspath(tfrec_meta.__file__))


class Shorten(logging.Filter):
    """Drops noise, and keeps the first line of messages that TFX writes over hundreds of lines."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.WARNING:
            text = record.getMessage()
            if text.startswith(_NOISE):
                return False
            first, _, rest = text.partition("\n")
            if record.levelno <= logging.INFO and (rest or len(first) > _LONGEST):
                record.msg, record.args = first[:_LONGEST] + " …", ()
        return True


def show_log() -> None:
    """Writes TFX's log from INFO on to standard error, with long messages shortened."""
    absl_logging.use_absl_handler()
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # otherwise every log begins with a warning of absl
    handler = absl_logging.get_absl_handler()
    if not any(isinstance(known, Shorten) for known in handler.filters):
        handler.addFilter(Shorten())
    absl_logging.set_verbosity(absl_logging.INFO)


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Writes all log messages into a file, and shows this package's warnings on standard error."""
    root = logging.getLogger()
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("\n  %(message)s"))
    shown.setLevel(logging.WARNING)
    # Selects by file, not by logger: this package's nodes use absl's logger, as TFX does.
    shown.addFilter(lambda record: record.pathname.startswith(_PACKAGE) and not record.exc_info)
    before, level = root.handlers[:], root.level
    root.handlers[:] = [file, shown]
    absl_level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
        absl_logging.set_verbosity(absl_level)
        file.close()
