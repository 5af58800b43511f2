"""What is refused because of the request: names, limits, statuses and rights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._base import SandboxError

if TYPE_CHECKING:
    from sandbox_core.models import SandboxStatus


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
    """No sandbox receives this guild's events; or, with `sandbox_name`, that one does not."""

    code = "SANDBOX_011"

    def __init__(self, guild_id: str, sandbox_name: str = "") -> None:
        super().__init__(guild_id, *filter(None, [sandbox_name]))
        self.guild_id = guild_id
        self.sandbox_name = sandbox_name


class GuildLimitReached(SandboxError):
    """The sandbox would have more guilds than `limit`."""

    code = "SANDBOX_014"

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class ShareLimitReached(SandboxError):
    """The sandbox is shared with `limit` colleagues already."""

    code = "SANDBOX_014"

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class StorageUsedUp(SandboxError):
    """A sandbox stores as much as it may in one store, or all of them together do.

    `sandbox_name` is empty for all together. `used` and `limit` are in bytes, or in keys when `of_keys`.
    """

    code = "SANDBOX_014"

    def __init__(
        self, dependency: str, used: int, limit: int, *, sandbox_name: str = "", of_keys: bool = False
    ) -> None:
        super().__init__(dependency, used, limit, sandbox_name)
        self.dependency = dependency
        self.used = used
        self.limit = limit
        self.sandbox_name = sandbox_name
        self.of_keys = of_keys


class DoesNotFit(SandboxError):
    """An event, a recording or a template is unknown or does not fit.

    `what` names it, `problem` says what is wrong with it, `right` is a sentence about what would be right.
    """

    code = "SANDBOX_015"

    def __init__(self, what: str, problem: str, right: str) -> None:
        super().__init__(what, problem, right)
        self.what = what
        self.problem = problem
        self.right = right
