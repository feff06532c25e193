"""The base of every command of `tfrec-meta`: help, options, results, errors and exit statuses.

Importing this module loads nothing but click.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from tfrec_meta.commands.summaries import SUMMARIES
from tfrec_meta.errors import described, is_for_users
from tfrec_meta.extras import not_installed
from tfrec_meta.io.logs import printable
from tfrec_meta.keras import hide_tensorflow_errors

PROGRAM = "tfrec-meta"


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a command.

    Attributes:
        content: what `--json` prints, as one JSON object.
        text: what is printed for people.
        status: the exit status.
    """

    content: Mapping[str, Any]
    text: str = ""
    status: int = 0

    def show(self, as_json: bool) -> None:
        """Prints the JSON object, or else the text, on standard output.

        With `as_json` the text goes to standard error.
        """
        if self.text:
            print(printable(self.text), file=sys.stderr if as_json else sys.stdout, flush=True)
        if as_json:
            print(json.dumps(self.content), flush=True)


def note(text: str) -> None:
    """Prints a remark for people on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


class Option(click.Option):
    """An option of a command.

    Args:
        section: the heading under which `--help` lists it.
        parameters: names of library parameters that it sets, in addition to its own name. Errors
            about these parameters are printed with the option's flag.
        many: whether one flag takes several values: `--data a.csv b.csv`.
        empty: whether the empty text is a value. A shell gives it for a variable that is not set.
    """

    def __init__(
        self,
        *declarations: Any,
        section: str = "",
        parameters: Sequence[str] = (),
        many: bool = False,
        empty: bool = False,
        **attributes: Any,
    ):
        super().__init__(*declarations, **{**attributes, "multiple": many})
        self.section, self.parameters, self.many, self.empty = section, parameters, many, empty

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, value if self.empty else _not_empty(self, ctx, value))

    def make_metavar(self, ctx: click.Context) -> str:
        text = super().make_metavar(ctx)
        return f"{text}..." if self.many else text


class Argument(click.Argument):
    """A positional argument of a command.

    Args:
        parameters: names of library parameters that it sets, in addition to its own name.
    """

    def __init__(self, *declarations: Any, parameters: Sequence[str] = (), **attributes: Any):
        super().__init__(*declarations, **attributes)
        self.parameters = parameters

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, _not_empty(self, ctx, value))


class Command(click.Command):
    """A command with examples in its help, `--debug`, and `--json` if it has a result.

    Args:
        examples: the arguments of the examples that `--help` shows.
        resumes: whether the same call continues where an interrupted call stopped.
        extra: the extra of the package that the command needs.
        rereads_data: whether it reads the data of an existing run. What reading drops is logged
            when the run begins and not again.
    """

    def __init__(
        self,
        *arguments: Any,
        examples: Sequence[str] = (),
        resumes: bool = False,
        rereads_data: bool = False,
        extra: str = "core",
        **attributes: Any,
    ):
        super().__init__(*arguments, **attributes)
        self.examples, self.resumes, self.rereads_data = examples, resumes, rereads_data
        self.extra = extra

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        many = [flag for option in self.params if _takes_many(option) for flag in option.opts]
        return super().parse_args(ctx, list(_one_flag_each(args, many)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):
                sections.setdefault(getattr(param, "section", ""), []).append(record)
        general = sections.pop("", [])
        for name, records in {"Options": general, **sections}.items():
            with formatter.section(name):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = "".join(f"  {ctx.command_path} {one}".rstrip() + "\n" for one in self.examples)
        formatter.write(f"\nexamples:\n{lines}")

    def invoke(self, ctx: click.Context) -> int:
        """Runs the command.

        Returns:
            The exit status.
        """
        as_json, debug = ctx.params.pop("json", False), ctx.params.pop("debug")
        ctx.meta["json"] = as_json
        if not debug:
            # The log of TensorFlow's C++ code would bury the command's own output. What stops the
            # command is raised as an exception.
            hide_tensorflow_errors()
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        try:
            # With --json, nothing that a library prints may come before the JSON object.
            aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
            with aside, _data_log(quiet=self.rereads_data and not debug):
                result: Result = super().invoke(ctx)
            result.show(as_json)
            return result.status
        except KeyboardInterrupt:
            words = [word for word in _command_line(ctx) if word != "--overwrite"]
            effect = "resumes where it stopped" if self.resumes else "starts over"
            note(f"\ninterrupted: `{shlex.join([PROGRAM, *words])}` {effect}.")
            return 130
        except BrokenPipeError:  # `tfrec-meta … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if debug:
                raise
            note(f"error: {self._one_line(error)}")
            return 1

    def flags(self) -> dict[str, str]:
        """The flag of each option, or the metavar of each argument, by the parameters it sets."""
        found = {}
        for param in self.params:
            if isinstance(param, (Option, Argument)):
                is_option = isinstance(param, Option)
                shown = max(param.opts, key=len) if is_option else param.human_readable_name
                for name in (str(param.name), *param.parameters):
                    found[name] = shown.strip("[].")
        return found

    def _one_line(self, error: Exception) -> str:
        """Describes an error in one line, with flags in place of the names of parameters."""
        if isinstance(error, ModuleNotFoundError) and "pip install" not in str(error):
            error = not_installed(f"`{PROGRAM} {self.name}`", error, self.extra)
        text = described(error, self.flags())
        return text if is_for_users(error) else f"{text} `--debug` shows the traceback."


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used.

    Args:
        sections: the names and summaries of the commands, by the headings of `--help`.
        find: returns the command of a name.
        examples: lines that end the help.
    """

    def __init__(
        self,
        *arguments: Any,
        sections: Mapping[str, Mapping[str, str]],
        find: Callable[[str], click.Command],
        examples: str,
        **attributes: Any,
    ):
        super().__init__(*arguments, **attributes)
        self.sections, self.find, self.examples = sections, find, examples

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for commands in self.sections.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.find(cmd_name) if cmd_name in self.list_commands(ctx) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for section, commands in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(f"{name:<{width}}", text) for name, text in commands.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{self.examples}\n")


def module_command(name: str) -> click.Command:
    """Imports the command `name` of `tfrec-meta` from the module of that name."""
    module = name.replace("-", "_")
    found: click.Command = getattr(import_module(f"tfrec_meta.commands.{module}"), module)
    return found


def command(
    name: str, *examples: str, details: str = "", has_result: bool = True, **attributes: Any
) -> Callable[[Callable[..., Result]], Command]:
    """Makes a function a command of `tfrec-meta`.

    Args:
        name: the command's words, as "train" or "studies list".
        examples: the arguments of the examples that `--help` shows.
        details: paragraphs of `--help` below the command's summary.
        has_result: whether it takes `--json`.
        attributes: of `Command`.
    """

    def decorate(function: Callable[..., Result]) -> Command:
        params = getattr(function, "__click_params__", [])
        general = [click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.")]
        if has_result:
            text = "Print one JSON object on standard output, for programs."
            general.insert(0, click.Option(["--json"], is_flag=True, help=text))
        return Command(
            name.split()[-1],
            callback=function,
            params=[*reversed(params), *general],
            help="\n\n".join(filter(None, [SUMMARIES[name], details])),
            short_help=SUMMARIES[name],
            examples=examples,
            **attributes,
        )

    return decorate


def option(*declarations: str, **attributes: Any) -> Callable[[Any], Any]:
    """Declares an `Option` of a command."""
    return click.option(*declarations, cls=Option, **attributes)


def argument(*declarations: str, **attributes: Any) -> Callable[[Any], Any]:
    """Declares an `Argument` of a command."""
    return click.argument(*declarations, cls=Argument, **attributes)


def _not_empty(param: click.Parameter, ctx: click.Context, value: Any) -> Any:
    if value == "" or (isinstance(value, tuple | list) and "" in value):
        raise click.BadParameter("'' is empty.", ctx, param)
    return value


def _takes_many(param: click.Parameter) -> bool:
    return isinstance(param, Option) and param.many


def _one_flag_each(words: Sequence[str], flags: Sequence[str]) -> Iterator[str]:
    """Repeats each of `flags` before every value that follows it, as click expects it."""
    flag, values = "", 0
    for place, word in enumerate(words):
        if word == "--":
            yield from words[place:]
            return
        if word.startswith("-"):
            flag, values = (word if word in flags else ""), 0
        elif flag:
            values += 1
            if values > 1:
                yield flag
        yield word


@contextlib.contextmanager
def _data_log(quiet: bool) -> Iterator[None]:
    """Hides the warnings of reading data, if `quiet`."""
    log = logging.getLogger("tfrec_meta.data")
    before = log.level
    if quiet:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _command_line(ctx: click.Context) -> Sequence[str]:
    words: Sequence[str] = ctx.find_root().obj or ()
    return words
