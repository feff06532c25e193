"""`tfrec-meta completion`: prints the script with which a shell completes `tfrec-meta`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tfrec_meta.commands.base import PROGRAM, Result, argument, command

_VARIABLE = "_TFREC_META_COMPLETE"
_INSTALL = {
    "bash": "tfrec-meta completion bash > ~/.local/share/bash-completion/completions/tfrec-meta",
    "zsh": "tfrec-meta completion zsh > ~/.zfunc/_tfrec-meta    "
    "(with `fpath+=~/.zfunc` above `compinit` in ~/.zshrc)",
    "fish": "tfrec-meta completion fish > ~/.config/fish/completions/tfrec-meta.fish",
}


@command(
    "completion",
    *_INSTALL,
    details="To install it, create the folder if it is missing, run one of these lines and open a "
    "new shell:\n\n\b\n" + "\n".join(f"  {line}" for line in _INSTALL.values()),
)
@argument(
    "shell", type=click.Choice(list(_INSTALL)), metavar="SHELL", help=f"{', '.join(_INSTALL)}."
)
def completion(shell: str) -> Result:
    """Returns the script, which ends with a comment that says how to install it."""
    kind = get_completion_class(shell)
    assert kind is not None
    group = click.get_current_context().find_root().command
    script = kind(group, {}, PROGRAM, _VARIABLE).source().strip()
    comment = f"# To install this script: {_INSTALL[shell]}"
    return Result({"shell": shell, "script": script}, f"{script}\n{comment}")
