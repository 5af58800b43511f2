"""The life of sandboxes, as one object for every face: Discord, the owner's messages, the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Unpack
from uuid import UUID, uuid4

from sandbox_core.errors import SandboxNotFound, SandboxNotNamed
from sandbox_core.health import HealthChecker, SandboxHealth
from sandbox_core.models import Actor, AuditEntry, AuditEvent, GuildAccess, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace
from sandbox_core.postgres import Pool, audit, connected, guild_mappings, sandboxes, transaction
from sandbox_core.postgres.claims import Claims
from sandbox_core.validation import NAME_MAX, parse_duration, parse_guild_id

from . import guilds as guild_steps
from . import rules, teardown
from .create import Asked, create
from .create import check as check_create
from .ports import (
    Changed,
    Extension,
    FaultPoint,
    ManagerLimits,
    ManagerObserver,
    NoObserver,
    Parts,
    RouteChanges,
    no_fault,
)

Sandboxes = list[Sandbox]
AuditEntries = list[AuditEntry]
"""Both named here because `SandboxManager.list` hides the type's own name inside the class."""

_SUGGESTIONS = 25
"""As many choices as Discord shows in an autocomplete list."""
_NAME_OR_ID = re.compile(r"[a-z0-9-]{1,63}\Z")
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_SHORT_ID = re.compile(r"[0-9a-fA-F]{8}\Z")


def utc_now() -> datetime:
    """The present moment, aware and in UTC."""
    return datetime.now(UTC)


class SandboxManager:
    """Creates, finds, changes and destroys sandboxes; each rule about who may do what is below, once.

    Every method raises `DependencyUnavailable` when a server it needs is away, within 10 seconds. A method
    that changes where guilds' events go returns when every gateway process has switched; those that had not
    confirmed it in time are named in the result's `unconfirmed`.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        namespaces: Sequence[Namespace],
        routes: RouteChanges,
        limits: ManagerLimits,
        clock: Callable[[], datetime] = utc_now,
        observer: ManagerObserver | None = None,
        new_id: Callable[[], UUID] = uuid4,
        health: HealthChecker | None = None,
        faults: FaultPoint = no_fault,
    ) -> None:
        """`namespaces` in the order they are provisioned; they are dropped in reverse.

        `health` may know more parts than these; without it, they are the parts.
        """
        self._parts = Parts(
            pool=pool,
            namespaces=tuple(namespaces),
            routes=routes,
            limits=limits,
            clock=clock,
            observer=observer or NoObserver(),
            new_id=new_id,
            claims=Claims(pool),
            faults=faults,
        )
        self._health = health or HealthChecker(namespaces)

    async def create(
        self,
        actor: Actor,
        **asked: Unpack[Asked],
    ) -> Changed:
        """Make a sandbox and register the guilds with it; it is running when this returns.

        When a step fails, also by cancellation, all that was made is taken back. Raises `InvalidInput`,
        `NameTaken`, `OwnerLimitReached`, `SchemaCreationFailed`, and for the guilds as `register_guild`;
        `confirmed` counts for protected ones among them.
        """
        return await create(self._parts, actor, asked)

    async def get(self, reference: str) -> Sandbox:
        """The sandbox with this name, id or short id. Raises `SandboxNotFound`, also for a destroyed one."""
        text, sandbox_id = _read(reference)
        async with connected(self._parts.pool) as connection:
            if _NAME_OR_ID.match(text):
                found = await sandboxes.find_live(connection, name=text, sandbox_id=sandbox_id)
                if found is not None:
                    return found
            names = await sandboxes.live_names(connection)
        near = difflib.get_close_matches(text[:NAME_MAX].lower(), names, n=3, cutoff=0.5)
        raise SandboxNotFound(reference, near)

    async def get_or_only(self, reference: str | None, *, owner: str) -> Sandbox:
        """As `get`; without a reference the owner's only one. Raises `SandboxNotNamed` without just one."""
        if reference is not None:
            return await self.get(reference)
        own = await self.list(owner=owner)
        if len(own) != 1:
            raise SandboxNotNamed([sandbox.name for sandbox in own])
        return own[0]

    async def _ever(self, reference: str) -> UUID:
        try:
            return (await self.get(reference)).id
        except SandboxNotFound:
            text, sandbox_id = _read(reference)
            if not _NAME_OR_ID.match(text):
                raise
            async with connected(self._parts.pool) as connection:
                last = await sandboxes.last_destroyed(connection, name=text, sandbox_id=sandbox_id)
            if last is None:
                raise
            return last.id

    async def list(
        self,
        *,
        owner: str | None = None,
        status: SandboxStatus | None = None,
        include_destroyed: bool = False,
    ) -> Sandboxes:
        """Sandboxes that fit every filter given, newest first; destroyed ones when asked for."""
        async with connected(self._parts.pool) as connection:
            return await sandboxes.select(
                connection, owner=owner, status=status, include_destroyed=include_destroyed
            )

    async def suggest(self, prefix: str, *, owner_first: str) -> Sandboxes:
        """At most 25 sandboxes for an autocomplete list, not destroyed, with `prefix` in their name.

        Those of `owner_first` come before the others, and names that start so before the rest.
        """
        part = prefix.strip().lower()
        if part and not _NAME_OR_ID.match(part):
            return []
        async with connected(self._parts.pool) as connection:
            return await sandboxes.matching(connection, part, owner_first=owner_first, limit=_SUGGESTIONS)

    async def for_guild(self, guild_id: str) -> Sandbox | None:
        """The sandbox this guild is registered with; ask its `routes_at` whether it still gets events."""
        cleaned = parse_guild_id(guild_id)
        async with connected(self._parts.pool) as connection:
            return await guild_mappings.holder_of(connection, cleaned)

    async def register_guild(
        self, actor: Actor, reference: str, access: GuildAccess, *, confirmed: bool = False
    ) -> Changed:
        """Send the guild's events to the sandbox; when it is registered there already, that is fine.

        A protected guild is refused to all but the bot's owner, and to the bot's owner until `confirmed`.
        Raises `SandboxNotFound`, `NotPermitted`, `InvalidInput`, `BotNotInGuild`, `GuildProtected`,
        `ConfirmationNeeded`, `SandboxNotRunning` or `GuildAlreadyMapped`.
        """
        sandbox = await self.get(reference)
        return await guild_steps.register(self._parts, actor, sandbox, access, confirmed=confirmed)

    async def unregister_guild(
        self, actor: Actor, access: GuildAccess, *, reference: str | None = None
    ) -> Changed:
        """Send the guild's events to production again; returns the sandbox that had them.

        Raises `GuildNotRegistered` when it is not registered, or not with `reference`; `SandboxNotFound`,
        `InvalidInput` or `NotPermitted`.
        """
        expected = None if reference is None else await self.get(reference)
        return await guild_steps.unregister(self._parts, actor, access, expected)

    async def extend(self, actor: Actor, reference: str, duration: str) -> Extension:
        """Add to the present expiry, up to the longest life counted from the creation.

        Asking for more is no mistake: the result says that it was `capped`. Raises `SandboxNotFound`,
        `NotPermitted`, `InvalidInput` or `SandboxNotRunning`.
        """
        sandbox = await self.get(reference)
        rules.may_change(actor, sandbox, "extend")
        limit = self._parts.limits.max_ttl
        # A sandbox has an age, so even the whole of `limit` is more than there is to add.
        added = parse_duration(duration, maximum=limit, field="duration", capped=True)
        now = self._parts.clock()
        async with transaction(self._parts.pool) as connection:
            current = await guild_steps.locked(connection, sandbox)
            rules.must_run(current, now)
            wished = current.expires_at + added
            # The maximum may have been lowered since; an extension never shortens a life.
            expires_at = max(current.expires_at, min(wished, current.created_at + limit))
            await sandboxes.set_expiry(connection, current.id, expires_at)
            await sandboxes.touch(connection, current.id, now)
            await audit.record(
                connection,
                current.id,
                AuditEvent.TTL_EXTENDED,
                actor=actor,
                at=now,
                details={
                    "from": current.expires_at.isoformat(),
                    "to": expires_at.isoformat(),
                    "capped": expires_at < wished,
                },
            )
            extended = await guild_steps.locked(connection, current)
        changed = await self._parts.send_to(extended)
        return Extension(extended, changed.unconfirmed, capped=expires_at < wished)

    async def destroy(self, actor: Actor, reference: str) -> Changed:
        """Remove the sandbox and everything in it; its guilds' events go to production first.

        Raises `SandboxNotFound`, `NotPermitted`, `SandboxNotRunning` while it is being created, or
        `CleanupFailed`: then it stays `destroying`, and calling this again goes on.
        """
        return await teardown.destroy(self._parts, actor, await self.get(reference))

    def check_may_manage(self, actor: Actor, sandbox: Sandbox, verb: str = "manage") -> None:
        """Raise `NotPermitted` unless the sandbox is the actor's own or the actor is the bot's owner.

        `verb` says in the refusal what was asked for.
        """
        rules.may_change(actor, sandbox, verb)

    def check_running(self, sandbox: Sandbox) -> None:
        """Raise `SandboxNotRunning` unless the sandbox takes events now; past its expiry it does not."""
        rules.must_run(sandbox, self._parts.clock())

    async def check_create(
        self,
        actor: Actor,
        **asked: Unpack[Asked],
    ) -> None:
        """Raise what `create` would refuse now, for a face that asks its caller something first.

        `ConfirmationNeeded` comes last: then nothing else stands in the way.
        """
        await check_create(self._parts, actor, asked)

    async def check_register_guild(
        self, actor: Actor, sandbox: Sandbox, access: GuildAccess, *, confirmed: bool = False
    ) -> None:
        """Raise what `register_guild` would refuse now; `ConfirmationNeeded` as with `check_create`."""
        await guild_steps.check(self._parts, actor, sandbox, access, confirmed=confirmed)

    async def audit(self, reference: str, *, limit: int = 50) -> AuditEntries:
        """The newest `limit` entries of the audit log about one sandbox, the oldest of them first.

        A destroyed sandbox answers to its id, and to its name or short id until another one has taken it.
        Raises `SandboxNotFound`.
        """
        sandbox_id = await self._ever(reference)
        async with connected(self._parts.pool) as connection:
            return await audit.entries(connection, sandbox_id, limit=limit)

    async def health(self, reference: str) -> SandboxHealth:
        """How each part serves the sandbox now; a store that is away is a finding, not an error."""
        return await self._health.check(await self.get(reference))


def _read(reference: str) -> tuple[str, UUID | None]:
    """The reference as the table knows it, and the id when it is one."""
    text = reference.strip()
    if _ID.match(text) or _SHORT_ID.match(text):
        text = text.lower()
    return text, UUID(text) if _ID.match(text) else None
