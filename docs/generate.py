"""Writes the pages that are made from the code: `make docs`, or `python docs/generate.py`.

`docs/errors.md` is the error tree with the words a person reads, `docs/settings.md` every setting. A test
fails while a page is not what this program would write.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from sandbox_core import errors
from sandbox_core.error_text import explain
from sandbox_core.models import SandboxStatus
from sandbox_core.settings import TAKES, Settings
from sandbox_core.validation import parse_duration

DOCS = Path(__file__).resolve().parent

_GUILD, _OTHER = "613425648685547541", "613425648685547542"


def _refused(parse: Callable[..., object], *arguments: object, **options: object) -> errors.InvalidInput:
    try:
        parse(*arguments, **options)
    except errors.InvalidInput as error:
        return error
    raise ValueError(f"{parse.__name__} takes {arguments}")


EXAMPLES: Mapping[type[errors.SandboxError], errors.SandboxError] = {
    errors.NameTaken: errors.NameTaken("welcome-flow"),
    errors.OwnerLimitReached: errors.OwnerLimitReached(2, ("welcome-flow", "try-login")),
    errors.GuildLimitReached: errors.GuildLimitReached(100),
    errors.ShareLimitReached: errors.ShareLimitReached(10),
    errors.SlotsUsedUp: errors.SlotsUsedUp("tenants:4222", 100),
    errors.StorageUsedUp: errors.StorageUsedUp(
        "PostgreSQL", 283_115_520, 268_435_456, sandbox_name="welcome-flow"
    ),
    errors.GuildAlreadyMapped: errors.GuildAlreadyMapped(_GUILD, "welcome-flow"),
    errors.SandboxNotFound: errors.SandboxNotFound("welcome-flwo", ("welcome-flow",)),
    errors.SchemaCreationFailed: errors.SchemaCreationFailed(
        "sandbox_3f2a9c01", "permission denied for database bot"
    ),
    errors.CleanupFailed: errors.CleanupFailed("welcome-flow", "Redis", "no answer within 5 seconds"),
    errors.ResetUnfinished: errors.ResetUnfinished("welcome-flow", "Redis", "connection refused"),
    errors.StillWritten: errors.StillWritten("Redis", "keys"),
    errors.InvalidInput: _refused(parse_duration, "10y", maximum=timedelta(days=7)),
    errors.SandboxNotNamed: errors.SandboxNotNamed(("welcome-flow", "try-login")),
    errors.BotNotInGuild: errors.BotNotInGuild(_GUILD),
    errors.SandboxNotRunning: errors.SandboxNotRunning("welcome-flow", SandboxStatus.EXPIRED),
    errors.TransitionNotAllowed: errors.TransitionNotAllowed(SandboxStatus.DESTROYED, SandboxStatus.RUNNING),
    errors.NotPermitted: errors.NotPermitted("destroy `welcome-flow`", "its owner or the bot's owner"),
    errors.GuildProtected: errors.GuildProtected(_GUILD),
    errors.ConfirmationNeeded: errors.ConfirmationNeeded(_GUILD, "Support"),
    errors.GuildNotRegistered: errors.GuildNotRegistered(_OTHER),
    errors.DependencyUnavailable: errors.DependencyUnavailable(
        "PostgreSQL", "no answer in time", "db.example:5432"
    ),
    errors.DependencyFaulty: errors.DependencyFaulty("PostgreSQL", "its disk is full", "db.example:5432"),
    errors.NotFinished: errors.NotFinished("PostgreSQL", 15),
    errors.RotationUnfinished: errors.RotationUnfinished("Redis", "connection refused", "keys.example:6379"),
    errors.SharingUnfinished: errors.SharingUnfinished("Redis", "connection refused", "keys.example:6379"),
    errors.OutcomeUnknown: errors.OutcomeUnknown("PostgreSQL", "the connection was lost", "db.example:5432"),
    errors.CutOff: errors.CutOff(errors.NotFinished("PostgreSQL", 8)),
    errors.LoginRefused: errors.LoginRefused(
        "PostgreSQL",
        where="db.example:5432",
        user="sandbox",
        problem="the password is wrong, or there is no such role",
        setting="DATABASE_URL",
    ),
    errors.NotMigrated: errors.NotMigrated(),
    errors.StreamUnusable: errors.StreamUnusable(
        "EVENTS",
        "nats.example.org:4222",
        "is not this bot's (subjects billing.>; no made-by=discord-server-sandboxes in its metadata) and is "
        "left alone",
        "Set NATS_EVENTS_STREAM to another name, and NATS_EVENTS_PREFIX if these subjects are taken too.",
    ),
    errors.IsolationImpossible: errors.IsolationImpossible(
        "PostgreSQL",
        "db.example:5432",
        "the role sandbox may not make roles",
        'As a superuser: ALTER ROLE "sandbox" CREATEROLE;',
    ),
    errors.NoCredentials: errors.NoCredentials("welcome-flow", outdated=True),
    errors.SharingImpossible: errors.SharingImpossible("welcome-flow"),
    errors.ProductionTokenOutdated: errors.ProductionTokenOutdated(),
    errors.DoesNotFit: errors.DoesNotFit(
        "The event type MESSAGE_CRATE",
        "Discord documents none of this name",
        "Did you mean MESSAGE_CREATE?",
    ),
}
"""One of each error, as it might really happen."""

_OPERATORS: Mapping[str, str] = {
    "SANDBOX_005": "runbook.md#rb-sb-005-schema-creation-failures",
    "SANDBOX_006": "runbook.md#rb-sb-002-cleanup-failures",
    "SANDBOX_012": "runbook.md#rb-sb-006-status-command-issues",
    "SANDBOX_013": "servers.md#the-sandboxes-side",
}
"""Where the runbook goes on, for the codes that are not the user's to mend."""

_IN_SHORT: Mapping[str, str] = {
    "SANDBOX_006": "A removal or a reset stopped at one of its steps; it goes on by itself.",
    "SANDBOX_007": "A value from outside is invalid, or a needed one is missing.",
    "SANDBOX_010": "The caller may not do this, or not without a confirmation.",
    "SANDBOX_012": "A needed server is away, refuses, can't do it now, or did not answer in time.",
    "SANDBOX_013": "A server can't keep sandboxes apart, or a sandbox lacks the credentials for this.",
    "SANDBOX_014": "A limit is reached: of a sandbox, or of all of them together.",
}
"""What the errors of one code have in common, for codes with several that differ."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Discord": ("discord_",),
    "Sandboxes' own bots": ("sandbox_gateway_",),
    "Servers": (
        "database_",
        "sandbox_control_",
        "redis_",
        "nats_",
        "sandbox_nats_url",
        "sandbox_nats_replicas",
    ),
    "Sandboxes": (
        "sandbox_default_",
        "sandbox_max_",
        "sandbox_cleanup_",
        "sandbox_expiry_",
        "sandbox_route_",
        "sandbox_shield_",
        "sandbox_template",
    ),
    "Isolation": (
        "sandbox_isolation",
        "sandbox_database_url",
        "sandbox_redis_url",
        "sandbox_credentials_",
        "sandbox_worker_",
    ),
    "Limits of a sandbox": (
        *("sandbox_database_connections", "sandbox_database_statement_"),
        *("sandbox_database_mb", "sandbox_database_all_"),
        *("sandbox_redis_mb", "sandbox_redis_keys", "sandbox_redis_all_"),
        *("sandbox_stream_", "sandbox_nats_connections"),
    ),
    "Recordings": ("sandbox_recordings_",),
    "Events": ("events_", "router_"),
    "Operation": ("ops_", "metrics_", "log_"),
}
"""The sections of the settings' page, by the beginnings of the fields' names."""


_ABOUT_ERRORS = """\
Every refusal and failure has a code: in Discord, in the owner's direct messages, on the command line and in
the logs. It has changed nothing, unless its text says otherwise. A failure without a code is a fault of the
bot: it is answered with one sentence and an id, and that id is in the log.

`sandboxctl` writes `CODE: sentence` to standard error, and ends with 3 when a server is away, with 1
otherwise."""

_ABOUT_SETTINGS = """\
They come from the environment, or from a file `.env` in the working directory; the environment wins. An
empty variable counts as not set. A wrong or missing one stops the start with one line that names it, and
exit code 2. [.env.example](../.env.example) is a file to begin with. A variable that nothing reads, and whose
name is near a setting's, is told in the log line `setting_misspelt` and by `doctor`.

How addresses are written, and how TLS is asked for: [servers of your own](servers.md#addresses).

A secret can also stand in a file that the variable with `_FILE` behind its name names, as containers are
given them: {files}. A secret that is given in both ways stops the start.

Ids of servers, users and roles: in Discord's *User Settings*, *Advanced*, turn on *Developer Mode*; then
*Copy ID* is in the menu of each."""


def pages() -> dict[Path, str]:
    """Every generated page and its text."""
    return {DOCS / "errors.md": errors_page(), DOCS / "settings.md": settings_page()}


def errors_page() -> str:
    """The error tree, by code."""
    by_code: dict[str, list[type[errors.SandboxError]]] = {}
    for cls in error_classes():
        by_code.setdefault(cls.code, []).append(cls)
    lines = [
        _made_from("sandbox_core/errors"),
        "# Errors",
        "",
        _ABOUT_ERRORS,
        "",
        "| code | when |",
        "|---|---|",
        *(
            f"| [`{code}`](#{code.lower()}) | {_IN_SHORT.get(code, _when(classes[0]))} |"
            for code, classes in sorted(by_code.items())
        ),
    ]
    for code, classes in sorted(by_code.items()):
        lines += ["", f"## {code}"]
        for cls in classes:
            text = explain(EXAMPLES[cls])
            lines += ["", f"**`{cls.__name__}`**: {_when(cls)}", "", f"> {text.sentence}"]
            if text.way_out:
                lines += [">", f"> {text.way_out}"]
        if code in _OPERATORS:
            page = "the runbook" if _OPERATORS[code].startswith("runbook") else "servers of your own"
            lines += ["", f"For operators: [{page}]({_OPERATORS[code]})."]
    return "\n".join(lines) + "\n"


def error_classes() -> Iterator[type[errors.SandboxError]]:
    """Every error that has a code of its own or inherits one, parents first."""
    waiting = list(errors.SandboxError.__subclasses__())
    while waiting:
        cls = waiting.pop(0)
        yield cls
        waiting[:0] = cls.__subclasses__()


def _when(cls: type[errors.SandboxError]) -> str:
    """The docstring's first sentence; the others are for who handles the error in code."""
    return (cls.__doc__ or "").strip().split(". ")[0].split(".\n")[0].rstrip(".").replace("\n    ", " ") + "."


def settings_page() -> str:
    """Every setting, by section."""
    lines = [
        _made_from("sandbox_core/settings.py"),
        "# Settings",
        "",
        _ABOUT_SETTINGS.format(files=", ".join(f"`{name.upper()}_FILE`" for name in secret_settings())),
    ]
    written = purposes()
    for group, prefixes in GROUPS.items():
        lines += ["", f"## {group}", "", "| variable | what for | it takes | default |", "|---|---|---|---|"]
        for name, field in Settings.model_fields.items():
            if name.startswith(prefixes):
                variable = name.upper()
                purpose = " ".join(written.get(name, "").split())
                lines.append(f"| `{variable}` | {purpose} | {TAKES[variable]} | {_default(name, field)} |")
    return "\n".join(lines) + "\n"


def purposes() -> dict[str, str]:
    """What is written below each setting, in its own class or in one that this inherits from.

    pydantic can read it, too, but at each start of a program.
    """
    found: dict[str, str] = {}
    for cls in reversed(Settings.__mro__[: Settings.__mro__.index(BaseSettings)]):
        lines: list[ast.stmt] = getattr(ast.parse(inspect.getsource(cls)).body[0], "body", [])
        for field, below in pairwise(lines):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = text
    return found


def secret_settings() -> list[str]:
    """The fields whose value may come from a file."""
    return [
        name
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    ]


def _default(name: str, field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "must be set"
    if name in {"discord_token", "discord_dev_guild_ids"}:
        return "the bot needs it"
    if value in (None, ()):
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{shown}`"


def _made_from(source: str) -> str:
    return f"<!-- Made from {source} by `make docs`; a change here is overwritten. -->\n"


def main() -> None:
    """Write the pages that differ."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.name} is written.\n")


if __name__ == "__main__":
    main()
