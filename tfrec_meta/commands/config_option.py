"""The option `--config`: a file with the settings of a run, over which other options win."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfrec_meta.commands.base import option
from tfrec_meta.commands.values import ExistingFile

config_option = option(
    "--config",
    type=ExistingFile(),
    metavar="FILE",
    help="YAML file with data, feedback, split and strategy, as `data check --to` writes it. "
    "Options on the command line win over it.",
)


@contextlib.contextmanager
def with_config(path: str | None, given: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the settings of a config file with those of the command line over them.

    Errors about a setting of the file, also those of the block, name the file and the setting.

    Args:
        path: the file; None without one.
        given: the settings of the command line.
    """
    if path is None:
        yield given
        return
    from tfrec_meta.workflows.configs.config_files import (
        errors_of_config,
        read_config,
        settings_over,
    )

    config = read_config(path)
    with errors_of_config(path, config, given):
        yield settings_over(config, given)
