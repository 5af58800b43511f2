"""Adapts the core's texts to a shell."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sandbox_core.error_text import explain
from sandbox_core.errors import (
    ConfirmationNeeded,
    GuildAlreadyMapped,
    GuildNotRegistered,
    GuildProtected,
    SandboxError,
)

_SLASH_COMMAND = re.compile(r"/sandbox ([a-z-]+)((?: [a-z_]+:[^\s`]+)*)")
_ARGUMENT = re.compile(r"[a-z_]+:([^\s`]+)")


def error_line(error: SandboxError) -> str:
    """An error's code, sentence and way out on one line: `SANDBOX_004: There is no sandbox …`."""
    text = explain(error)
    way_out = text.way_out
    if isinstance(error, GuildAlreadyMapped) and error.sandbox_name is not None:
        way_out = f"Unregister it there first: `sandboxctl unregister-guild {error.guild_id}`."
    elif isinstance(error, ConfirmationNeeded):
        way_out = f"To go on, name it a second time: `--protected {error.guild_id}`."
    elif isinstance(error, GuildProtected):
        registering = f"sandboxctl register-guild NAME {error.guild_id} --protected {error.guild_id}"
        way_out = f"The operator may, without --owner and SANDBOX_OWNER: `{registering}`."
    elif isinstance(error, GuildNotRegistered):
        name = error.sandbox_name or "NAME"
        way_out = f"`sandboxctl register-guild {name} {error.guild_id}` registers it."
    return f"{text.code}: {_for_shell(f'{text.sentence} {way_out}'.strip())}"


def _for_shell(text: str) -> str:
    def command(match: re.Match[str]) -> str:
        arguments = " ".join(_ARGUMENT.findall(match[2]))
        return f"sandboxctl {match[1]} {arguments}".rstrip()

    return _SLASH_COMMAND.sub(command, text)


def clean(text: str) -> str:
    """Return the text without characters that control a terminal: control characters, direction marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def iso(when: datetime) -> str:
    """`2026-03-01T12:00:00Z`: UTC, whole seconds."""
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def moment(when: datetime) -> str:
    """`2026-03-01 12:00 UTC`."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def relative(when: datetime, now: datetime) -> str:
    """`in 3 h 20 min`, or `5 min ago`."""
    distance = when - now
    length = _length(abs(distance))
    return f"in {length}" if distance >= timedelta(0) else f"{length} ago"


def _length(duration: timedelta) -> str:
    seconds = round(duration.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return _two(minutes, 60, "h", "min")
    return _two(round(minutes / 60), 24, "d", "h")


def _two(amount: int, size: int, large: str, small: str) -> str:
    whole, rest = divmod(amount, size)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"
