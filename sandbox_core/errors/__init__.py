"""All errors with a code, as one tree. Errors contain data; `error_text` turns them into sentences.

SandboxError
├── NameTaken                 SANDBOX_001
├── OwnerLimitReached         SANDBOX_002
├── GuildAlreadyMapped        SANDBOX_003
├── SandboxNotFound           SANDBOX_004
├── SchemaCreationFailed      SANDBOX_005
├── CleanupFailed             SANDBOX_006
├── StillWritten              SANDBOX_006
├── InvalidInput              SANDBOX_007
│   ├── SandboxNotNamed       SANDBOX_007
│   └── BotNotInGuild         SANDBOX_007
├── SandboxNotRunning         SANDBOX_008
├── TransitionNotAllowed      SANDBOX_009
├── NotPermitted              SANDBOX_010
│   ├── GuildProtected        SANDBOX_010
│   └── ConfirmationNeeded    SANDBOX_010
├── GuildNotRegistered        SANDBOX_011
├── DependencyUnavailable     SANDBOX_012
│   ├── DependencyFaulty      SANDBOX_012
│   ├── NotFinished           SANDBOX_012
│   ├── RotationUnfinished    SANDBOX_012
│   ├── OutcomeUnknown        SANDBOX_012
│   ├── CutOff                SANDBOX_012
│   ├── LoginRefused          SANDBOX_012
│   ├── NotMigrated           SANDBOX_012
│   └── StreamUnusable        SANDBOX_012
├── IsolationImpossible       SANDBOX_013
├── NoCredentials             SANDBOX_013
├── GuildLimitReached         SANDBOX_014
└── SlotsUsedUp               SANDBOX_014
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from .models import SandboxStatus


class SandboxError(Exception):
    """Base of every error with a code.

    A subclass sets `code`; its attributes are the facts, and `error_text.explain` writes the text.
    """

    code: ClassVar[str]

    def __str__(self) -> str:
        facts = ", ".join(str(fact) for fact in self.args)
        return f"{self.code} {type(self).__name__}({facts})"


class NameTaken(SandboxError):
    """Another sandbox that is not destroyed has this name.

    `own` is its status when it is the caller's own, and None when it is somebody else's or not known.
    """

    code = "SANDBOX_001"

    def __init__(self, name: str, own: SandboxStatus | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.own = own


class OwnerLimitReached(SandboxError):
    """The owner has reached the limit of sandboxes."""

    code = "SANDBOX_002"

    def __init__(self, limit: int, names: Sequence[str]) -> None:
        super().__init__(limit, tuple(names))
        self.limit = limit
        self.names = tuple(names)


class GuildAlreadyMapped(SandboxError):
    """The guild's events already go to another sandbox.

    `sandbox_name` is its name, or None when the caller must not know it.
    """

    code = "SANDBOX_003"

    def __init__(self, guild_id: str, sandbox_name: str | None) -> None:
        super().__init__(guild_id, sandbox_name)
        self.guild_id = guild_id
        self.sandbox_name = sandbox_name


class SandboxNotFound(SandboxError):
    """No live sandbox has this name or id. `suggestions` are the nearest names."""

    code = "SANDBOX_004"

    def __init__(self, reference: str, suggestions: Sequence[str] = ()) -> None:
        super().__init__(reference, tuple(suggestions))
        self.reference = reference
        self.suggestions = tuple(suggestions)


class SchemaCreationFailed(SandboxError):
    """PostgreSQL refused to create the sandbox's schema. `reason` is PostgreSQL's own short message."""

    code = "SANDBOX_005"

    def __init__(self, schema: str, reason: str) -> None:
        super().__init__(schema, reason)
        self.schema = schema
        self.reason = reason


class CleanupFailed(SandboxError):
    """A step of the destruction failed; the sandbox stays `destroying` until a later pass removes it."""

    code = "SANDBOX_006"

    def __init__(self, sandbox_name: str, step: str, reason: str) -> None:
        super().__init__(sandbox_name, step, reason)
        self.sandbox_name = sandbox_name
        self.step = step
        self.reason = reason


class StillWritten(SandboxError):
    """A removal found new data again and again, because a worker still writes it.

    `dependency` is the store; `what` is the kind of data, such as `keys`.
    """

    code = "SANDBOX_006"

    def __init__(self, dependency: str, what: str) -> None:
        super().__init__(dependency, what)
        self.dependency = dependency
        self.what = what


class InvalidInput(SandboxError):
    """A value from outside is invalid.

    `field` names the input, `problem` says what is wrong with it, `example` shows a valid value.
    """

    code = "SANDBOX_007"

    def __init__(self, field: str, value: str, problem: str, example: str) -> None:
        super().__init__(field, value, problem, example)
        self.field = field
        self.value = value
        self.problem = problem
        self.example = example


class SandboxNotNamed(InvalidInput):
    """No sandbox was named, and the caller has none, or several (`names`)."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        super().__init__("name", "", "it is not clear which sandbox is meant", "its name")
        self.names = tuple(names)


class BotNotInGuild(InvalidInput):
    """The bot is not a member of the guild, so there are no events to route."""

    def __init__(self, guild_id: str) -> None:
        super().__init__(
            "guild",
            guild_id,
            "the bot is not in that server",
            "invite the bot there first, or choose a server from the list",
        )
        self.guild_id = guild_id


class SandboxNotRunning(SandboxError):
    """The operation needs a running sandbox."""

    code = "SANDBOX_008"

    def __init__(self, sandbox_name: str, status: SandboxStatus) -> None:
        super().__init__(sandbox_name, status)
        self.sandbox_name = sandbox_name
        self.status = status


class TransitionNotAllowed(SandboxError):
    """The life cycle has no transition between the two statuses."""

    code = "SANDBOX_009"

    def __init__(self, current: SandboxStatus, target: SandboxStatus) -> None:
        super().__init__(current, target)
        self.current = current
        self.target = target


class NotPermitted(SandboxError):
    """The caller may not do this. `action` is what was refused, `who_may` names those who may."""

    code = "SANDBOX_010"

    def __init__(self, action: str, who_may: str) -> None:
        super().__init__(action, who_may)
        self.action = action
        self.who_may = who_may


class GuildProtected(NotPermitted):
    """Only the bot's owner may register this guild."""

    def __init__(self, guild_id: str) -> None:
        super().__init__("register a protected server", "the bot's owner, after a second confirmation")
        self.guild_id = guild_id


class ConfirmationNeeded(NotPermitted):
    """The bot's owner may register this protected guild, but only after a confirmation.

    `guild_name` is empty when it is unknown.
    """

    def __init__(self, guild_id: str, guild_name: str = "") -> None:
        super().__init__("register a protected server without a confirmation", "the bot's owner, confirming")
        self.guild_id = guild_id
        self.guild_name = guild_name


class GuildNotRegistered(SandboxError):
    """No sandbox receives this guild's events."""

    code = "SANDBOX_011"

    def __init__(self, guild_id: str) -> None:
        super().__init__(guild_id)
        self.guild_id = guild_id


class DependencyUnavailable(SandboxError):
    """A needed server is away or did not answer in time.

    Nothing was changed, unless it is an `OutcomeUnknown`, a `CutOff` or a `NotFinished`.
    `dependency` is `PostgreSQL`, `Redis`, `NATS` or `Discord`; `problem` is what is wrong; `where` is the
    server's host and port, or empty. None of them is a secret.
    """

    code = "SANDBOX_012"

    def __init__(self, dependency: str, problem: str, where: str = "") -> None:
        super().__init__(dependency, problem, where)
        self.dependency = dependency
        self.problem = problem
        self.where = where

    def __str__(self) -> str:
        return f"{self.code} {type(self).__name__}({self.dependency}, {self.reason})"

    @property
    def reason(self) -> str:
        """The problem and the place, for a log line or a readiness answer that names the server already."""
        return f"{self.problem} at {self.where}" if self.where else self.problem

    @property
    def named_reason(self) -> str:
        """The reason where nothing else names the server."""
        return f"{self.dependency}: {self.reason}"

    def located(self, where: str) -> Self:
        """Add the place unless it is known; return the same error."""
        self.where = self.where or where
        return self


class DependencyFaulty(DependencyUnavailable):
    """The server answers, but can't do now what was asked; `problem` has a subject of its own."""

    @property
    def reason(self) -> str:
        """What answered, and with what."""
        place = f" at {self.where}" if self.where else ""
        return f"answers{place}, but {self.problem}"

    @property
    def named_reason(self) -> str:
        """The server, and what it answered."""
        return f"{self.dependency} {self.reason}"


class NotFinished(DependencyUnavailable):
    """The work at the server took longer than it may; whether the server answers is not known."""

    def __init__(self, dependency: str, seconds: float, where: str = "") -> None:
        super().__init__(dependency, f"not done within {seconds:g} s", where)


class RotationUnfinished(DependencyUnavailable):
    """The old credentials count no more, and this server has not taken the new ones yet."""


class OutcomeUnknown(DependencyUnavailable):
    """The connection was lost while a change was committed: it is made completely, or not at all."""


class CutOff(DependencyUnavailable):
    """A change took too long and was given up: it may be made, not made, or still be undone.

    `fault` is what it waited for.
    """

    def __init__(self, fault: DependencyUnavailable) -> None:
        super().__init__(fault.dependency, fault.problem, fault.where)
        self.fault = fault

    @property
    def reason(self) -> str:
        """What it waited for."""
        return self.fault.reason


class LoginRefused(DependencyUnavailable):
    """The server answers, but refuses the login or a permission (`refused`).

    `where` is its host and port, `user` the user, `problem` the reason, `setting` the setting to check. None
    of them is a secret.
    """

    def __init__(
        self, dependency: str, *, where: str, user: str, problem: str, setting: str, refused: str = "login"
    ) -> None:
        super().__init__(dependency, problem, where)
        self.refused = refused
        self.user = user
        self.setting = setting

    @property
    def reason(self) -> str:
        """Who was refused, where and why, and what to check."""
        return f"{self.refused} refused at {self.where} as {self.user}: {self.problem}; check {self.setting}"


class NotMigrated(DependencyUnavailable):
    """The database answers, but it lacks this project's tables or functions."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL", "the migrations are not applied")


class StreamUnusable(DependencyUnavailable):
    """NATS answers, but a stream there belongs to others, or can't be configured as needed.

    `server` is its host and port, or empty; `problem` continues a sentence after the stream's name; `mend`
    says what to do.
    """

    def __init__(self, stream: str, server: str, problem: str, mend: str) -> None:
        super().__init__("NATS", f"the stream {stream} {problem}")
        self.stream = stream
        self.server = server
        self.mend = mend


class IsolationImpossible(SandboxError):
    """A server of the sandboxes can't keep them apart, as `SANDBOX_ISOLATION=enforced` asks for.

    `where` is its host and port; `problem` continues a sentence; `mend` says what the operator must do.
    """

    code = "SANDBOX_013"

    def __init__(self, dependency: str, where: str, problem: str, mend: str) -> None:
        super().__init__(dependency, where, problem, mend)
        self.dependency = dependency
        self.where = where
        self.problem = problem
        self.mend = mend


class NoCredentials(SandboxError):
    """The sandbox has no credentials of its own, or none that the bot knows.

    `outdated` means that they were made with another SANDBOX_CREDENTIALS_KEY than the bot's.
    """

    code = "SANDBOX_013"

    def __init__(self, sandbox_name: str, *, outdated: bool = False) -> None:
        super().__init__(sandbox_name, outdated)
        self.sandbox_name = sandbox_name
        self.outdated = outdated


class GuildLimitReached(SandboxError):
    """The sandbox would have more guilds than `limit`."""

    code = "SANDBOX_014"

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class SlotsUsedUp(SandboxError):
    """The sandboxes' NATS server has an account for each of `slots` sandboxes, and none is free."""

    code = "SANDBOX_014"

    def __init__(self, where: str, slots: int) -> None:
        super().__init__(where, slots)
        self.where = where
        self.slots = slots


def _codes(kind: type[SandboxError]) -> set[str]:
    return {code for each in kind.__subclasses__() for code in (each.code, *_codes(each))}


ERROR_CODES = tuple(sorted(_codes(SandboxError)))
"""All codes of the tree."""
