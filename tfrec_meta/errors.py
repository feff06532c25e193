"""The error for a wrong argument, and how programs show errors to users.

The error carries the names of the parameters that it is about.

The command `tfrec-meta` prints its own flags in place of these names. Other exceptions that an
argument can cause carry them in the same way, in an attribute `parameters`. The module imports
nothing of the package, so every layer can use it.
"""

from __future__ import annotations

from collections.abc import Mapping


class ParameterError(ValueError):
    """A value that a parameter does not accept.

    Args:
        message: what is wrong and what to use instead. Parameters are in backticks, as in
            "`k`=0; use 1 or more."
        parameters: the names of all parameters that the message has in backticks and that its
            reader can set; the wrong one first.

    Example:
        >>> from tfrec_meta.errors import ParameterError
        >>> ParameterError("`max_k`=5, but `k`=10; raise `max_k`.", "max_k", "k").parameter
        'max_k'
    """

    def __init__(self, message: str, *parameters: str):
        super().__init__(message)
        self.parameters = parameters

    @property
    def parameter(self) -> str:
        """The name of the wrong parameter; "" if the error names none."""
        return self.parameters[0] if self.parameters else ""


class ParameterTypeError(ParameterError, TypeError):
    """A value of a type that a parameter does not accept."""


class MissingColumn(ParameterError):
    """A file or table without a column that the settings name.

    Args:
        message: as in `ParameterError`.
        column: the name of the column here, such as "time", or "items.genre" for an attribute.
        parameters: as in `ParameterError`.
    """

    def __init__(self, message: str, column: str, *parameters: str):
        super().__init__(message, *parameters)
        self.column = column


def described(error: Exception, names: Mapping[str, str] | None = None) -> str:
    """Returns an error as one line for users, without the names of Python's exceptions.

    The message of an error that was written for users stays as it is. Any other error is a fault of
    this package, and is reported as one.

    Args:
        error: the error.
        names: as in `named`.

    Example:
        >>> from tfrec_meta.errors import described
        >>> described(FileNotFoundError(2, "No such file or directory", "log.csv"))
        'log.csv: No such file or directory.'
    """
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}."  # without the number of the error
    if isinstance(error, MemoryError):
        return "There is not enough memory; use less data or a smaller model."
    text = " ".join(named(error, names or {}).split())
    if is_for_users(error):
        return text
    cause = f" ({text})" if text else ""
    return f"This is a fault of tfrec-meta, and not of the input{cause}. Please report it."


def is_for_users(error: Exception) -> bool:
    """Returns whether an error has a message for users, and is no fault of this package."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, RecursionError | NotImplementedError) or not str(error).strip():
        return False
    return isinstance(error, ValueError | OSError | RuntimeError | ImportError)


def named(error: Exception, names: Mapping[str, str]) -> str:
    """Returns the message of an error with other names for its parameters.

    Args:
        error: the error. Without an attribute `parameters` its message stays as it is.
        names: the new name of each parameter. A parameter that is not in it keeps its own name, in
            backticks.

    Example:
        >>> from tfrec_meta.errors import ParameterError, named
        >>> error = ParameterError("`max_k`=5, but `k`=10; raise `max_k`.", "max_k", "k")
        >>> named(error, {"max_k": "--max-k", "k": "-k"})
        '--max-k=5, but -k=10; raise --max-k.'
    """
    text = str(error)
    for parameter in getattr(error, "parameters", ()):
        if parameter in names:
            text = text.replace(f"`{parameter}`", names[parameter])
    return text
