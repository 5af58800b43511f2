"""Finds out who calls the command line.

A person who can run this command with the bot's settings has the bot's passwords. This person is the
operator, with the rights of the bot's owner. `--owner` (or `SANDBOX_OWNER`) acts for one developer instead,
with only that developer's rights; a user in `DISCORD_OWNER_IDS` is the bot's owner here, too. The audit log
has changes as `cli:{os user}`, or `cli:{os user} for {owner}`.
"""

from __future__ import annotations

import os
import sys

from sandbox_core.manager import SandboxManager
from sandbox_core.models import Actor, Sandbox
from sandbox_core.settings import Settings

from ._exit import usage


def actor(owner: str | None, settings: Settings) -> Actor:
    """Return the operator, or with `owner` that developer."""
    shell = f"cli:{_os_user()}"
    if owner is None:
        return Actor(shell, is_bot_owner=True)
    return Actor(owner, is_bot_owner=owner in settings.discord_owner_ids, via=shell)


def _os_user() -> str:
    # Not from LOGNAME or USER, which the caller may set.
    if sys.platform == "win32":
        return os.getlogin()
    import pwd  # noqa: PLC0415 - not there on Windows

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A user in a container often has only a number.
        return str(os.getuid())


async def named(manager: SandboxManager, name: str | None, owner: str | None) -> Sandbox:
    """Return the sandbox `name`, or without a name the owner's only one, else the only one shared with them.

    Raises `SandboxNotFound`, or `SandboxNotNamed` when there is none, or several.
    """
    if name is not None:
        return await manager.get(name)
    if owner is None:
        raise usage("Say which sandbox: its NAME, or --owner for that person's only one.")
    return await manager.get_or_only(None, owner=owner, shared=True)
