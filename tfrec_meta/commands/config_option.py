"""The option `--config`: a file with settings, over which other options win."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from tfrec_meta.commands.base import option
from tfrec_meta.commands.values import ExistingFile

if TYPE_CHECKING:
    from tfrec_meta.workflows.runs import Run

_OF_ONE_RUN = ("seed", "strategy")


def config_option(
    help: str = "YAML file with data, feedback, split and strategy; `data check --to` writes one.",
) -> Callable[[Any], Any]:
    """Declares `--config`."""
    return option(
        "--config",
        type=ExistingFile(),
        metavar="FILE",
        help=f"{help} Options on the command line win over it.",
    )


def group_option(group: str) -> Callable[[Any], Any]:
    """Declares `--config` of a command for an existing run, which uses one group of the file."""
    text = f"YAML file with `{group}` settings. Its data and split must be those of the run."
    return config_option(text)


@contextlib.contextmanager
def with_config(path: str | None, given: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the settings of a run in a config file, with those of the command line over them.

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
        run_part,
        settings_over,
    )

    config = run_part(read_config(path))
    with errors_of_config(path, config, given):
        yield settings_over(config, given)


@contextlib.contextmanager
def with_group(
    path: str | None, group: str, run: Run | None = None, **options: Any
) -> Iterator[Any]:
    """Yields the dataclass of a group of settings: of options, else of a config file, else usual.

    Errors about a setting of the file, also those of the block, name the file and the setting.

    Args:
        path: the file; None without one.
        group: as for `config_files.group_over`.
        run: an existing run, as for `refuse_other_run`; None without one.
        options: the values of the command's options, by field. Those that are defaults do not
            count.

    Raises:
        ValueError: if the file contradicts the run.
    """
    from tfrec_meta.workflows.configs.config_files import (
        errors_of_config,
        group_over,
        read_config,
    )

    source = click.get_current_context().get_parameter_source
    usual = click.core.ParameterSource.DEFAULT
    given = {name: value for name, value in options.items() if source(name) is not usual}
    if path is None:
        yield group_over({}, group, given)
        return
    config = read_config(path)
    if run is not None:
        refuse_other_run(path, run)
    with errors_of_config(path, {group: config.get(group, {})}, {group: given}):
        yield group_over(config, group, given)


def refuse_other_run(path: str | None, run: Run) -> None:
    """Raises ValueError if an existing run has other data, feedback or split than a config file.

    Its strategy and seed may be others, since runs of one config can differ in them.

    Args:
        path: the file; None without one.
        run: the run.
    """
    if path is None:
        return
    from tfrec_meta.workflows.configs.config_files import read_config, run_part

    wanted = {k: v for k, v in run_part(read_config(path)).items() if k not in _OF_ONE_RUN}
    run.refuse_other(wanted, f"Leave out --config, or train a run with the settings of {path}.")
