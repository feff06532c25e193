"""The error for a wrong argument, which carries the names of the parameters that it is about.

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
