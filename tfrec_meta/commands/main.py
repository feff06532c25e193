"""The command `tfrec-meta`: from interactions to recommendations, one command for each step.

The module of a command is imported when the command is used, and TensorFlow when the command trains
or loads a model. `--help`, `fetch` and `recommend` never load TensorFlow.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import click

from tfrec_meta import __version__
from tfrec_meta.commands.base import PROGRAM, LazyGroup, module_command, note
from tfrec_meta.commands.summaries import SECTIONS

__all__ = ["main"]

_STEPS = """\
first steps, each with its own --help:
  tfrec-meta fetch
  tfrec-meta train
  tfrec-meta evaluate
  tfrec-meta report
  tfrec-meta export
  tfrec-meta serve
  tfrec-meta recommend --run runs/first --user 42    (in another terminal)

or start from a recipe for a shop, news, video, music or a feed:
  tfrec-meta init shop --sample-data

exit status: 0 done, 1 error, 2 wrong usage, 130 interrupted"""

program = click.version_option(__version__, message=f"{PROGRAM} %(version)s")(
    LazyGroup(
        PROGRAM,
        help="From raw interactions to a tuned, distilled, served recommender, in TensorFlow.",
        sections=SECTIONS,
        find=module_command,
        examples=_STEPS,
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command line without the program's name; by default that of the process.

    Returns:
        The exit status: 0 done; 1 error, described in one line on standard error; 2 wrong usage;
        130 interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(program.main(arguments, PROGRAM, standalone_mode=False, obj=arguments) or 0)
    except click.UsageError as error:
        shown = io.StringIO()
        error.show(shown)
        note(shown.getvalue().rstrip())
        return error.exit_code
    except click.ClickException as error:
        note(f"error: {error.format_message()}")
        return error.exit_code
    except click.Abort:  # interrupted before the command ran
        note("interrupted.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
