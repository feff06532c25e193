"""The base of the commands: options with several values, results, errors and exit statuses."""

import json
import sys

import click
import pytest

from tfrec_meta.commands import base
from tfrec_meta.commands.base import Result, argument, command, option
from tfrec_meta.errors import ParameterError
from tfrec_meta.io.logs import printable


def run(function, *arguments, **attributes):
    """Runs a function with options as the command `fetch`."""
    return command("fetch", **attributes)(function).main(
        list(arguments), "fetch", standalone_mode=False
    )


def collect(*declarations):
    """Returns a function with these options, and the list of the values that it was called with."""
    calls = []

    def function(**values):
        calls.append(values)
        return Result({})

    for declare in reversed(declarations):
        function = declare(function)
    return function, calls


def test_one_flag_takes_several_values():
    function, calls = collect(option("--data", many=True), option("-k", type=int))
    assert run(function, "--data", "a.csv", "b.csv", "-k", "3", "--data", "c.csv") == 0
    assert calls == [{"data": ("a.csv", "b.csv", "c.csv"), "k": 3}]


def test_values_after_two_dashes_are_arguments():
    function, calls = collect(argument("names", nargs=-1), option("--data", many=True))
    assert run(function, "--data", "a", "--", "-b", "c") == 0
    assert calls == [{"names": ("-b", "c"), "data": ("a",)}]


def test_a_flag_without_its_value_is_wrong_usage():
    function, _ = collect(option("--data", many=True), option("-k", type=int))
    with pytest.raises(click.UsageError, match="requires an argument"):
        run(function, "-k", "3", "--data")


def test_a_result_is_printed_as_text_or_as_one_json_object(capsys):
    def function():
        print("the output of a library")
        return Result({"k": 3}, "k is 3", status=1)

    assert run(function) == 1
    assert capsys.readouterr().out == "the output of a library\nk is 3\n"
    assert run(function, "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"k": 3}
    assert shown.err == "the output of a library\nk is 3\n"


def test_a_command_without_a_result_has_no_json_option():
    function, _ = collect()
    with pytest.raises(click.UsageError, match="--json"):
        run(function, "--json", has_result=False)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ParameterError("`k`=0; use 1 or more.", "k"), "-k=0; use 1 or more."),
        (
            ParameterError("`address`='x'; use host:port.", "address"),
            "--server='x'; use host:port.",
        ),
        (ParameterError("`depth`=0; use 1.", "depth"), "`depth`=0; use 1."),
        (ParameterError("`names`='x'; use y.", "names"), "NAME='x'; use y."),
        (ValueError("column `k`\nis missing"), "column `k` is missing"),
        (FileNotFoundError(2, "No such file or directory", "a"), "a: No such file or directory."),
        (
            KeyError("k"),
            "This is a fault of tfrec-meta, and not of the input ('k'). Please report it. "
            "`--debug` shows the traceback.",
        ),
        (
            ValueError(),
            "This is a fault of tfrec-meta, and not of the input. Please report it. "
            "`--debug` shows the traceback.",
        ),
    ],
)
def test_an_error_is_one_line_with_the_flags_of_its_parameters(error, line, capsys):
    def function(**_):
        raise error

    function = option("-k", type=int)(option("--server", parameters=("address",))(function))
    function = argument("names", nargs=-1, metavar="[NAME]...")(function)
    assert run(function) == 1
    assert capsys.readouterr().err == f"error: {line}\n"
    with pytest.raises(type(error)):
        run(function, "--debug")


@pytest.mark.parametrize(
    ("resumes", "effect"), [(True, "resumes where it stopped"), (False, "starts over")]
)
def test_an_interrupted_command_prints_the_call_that_continues(resumes, effect, capsys):
    def function(**_):
        raise KeyboardInterrupt

    interrupted = command("fetch", resumes=resumes)(option("--overwrite", is_flag=True)(function))
    arguments = ["--overwrite"]
    status = interrupted.main(
        arguments, "fetch", standalone_mode=False, obj=["fetch", "a b", *arguments]
    )
    assert status == 130
    assert f"interrupted: `tfrec-meta fetch 'a b'` {effect}." in capsys.readouterr().err


def test_exit_statuses_do_not_depend_on_the_output_stream(capsys):
    def function():
        print("to standard error", file=sys.stderr)
        return Result({})

    assert run(function) == 0
    assert capsys.readouterr() == ("", "to standard error\n")


@pytest.mark.parametrize("text", ["\x1b[2J", "\u202e", "\x07", "\x9b1m", "\u2066", "\r", "\x00"])
def test_control_characters_are_not_printed_raw(text, capsys):
    base.note(f"a{text}b")
    base.Result({"title": text}, f"a{text}b\nc").show(as_json=False)
    printed = capsys.readouterr()
    assert text not in printed.err + printed.out
    assert printed.out.endswith("b\nc\n")
    assert printable("\n" + text, lines=False).isprintable()
