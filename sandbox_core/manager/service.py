"""The manager, which Discord's commands, the bot owner's messages and the command line all use."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Unpack
from uuid import UUID, uuid4

from sandbox_core.client_endpoint import ClientEndpoint
from sandbox_core.credentials import CredentialsKey
from sandbox_core.errors import IsolationImpossible, SandboxNotFound, SandboxNotNamed
from sandbox_core.health import HealthChecker, SandboxHealth
from sandbox_core.models import (
    Actor,
    AuditEntry,
    AuditEvent,
    GuildAccess,
    RestLevel,
    Sandbox,
    SandboxStatus,
    ShareAccess,
)
from sandbox_core.namespaces import Namespace
from sandbox_core.postgres import Pool, audit, connected, guild_mappings, sandboxes, transaction
from sandbox_core.postgres.claims import Claims
from sandbox_core.templates import Templates
from sandbox_core.validation import NAME_MAX, parse_duration, parse_guild_id

from . import credentials as credential_steps
from . import guilds as guild_steps
from . import levels as level_steps
from . import resets, rules, sharing, teardown
from .create import Asked, create
from .create import check as check_create
from .ports import (
    Changed,
    Colleague,
    Extension,
    FaultPoint,
    ManagerLimits,
    ManagerObserver,
    NoObserver,
    Registration,
    RouteChanges,
    Sharing,
    Tools,
    no_fault,
)
from .trials import create_trial

Names = list[str]
Sandboxes = list[Sandbox]
AuditEntries = list[AuditEntry]
"""Defined here because `SandboxManager.list` hides the type `list` inside the class."""

_SUGGESTIONS = 25
"""The most choices in Discord's autocomplete list."""
_NAME_OR_ID = re.compile(r"[a-z0-9-]{1,63}\Z")
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_SHORT_ID = re.compile(r"[0-9a-fA-F]{8}\Z")


def utc_now() -> datetime:
    """Return the current time, aware and in UTC."""
    return datetime.now(UTC)


class SandboxManager:
    """Creates, finds, changes and destroys sandboxes. The module `rules` decides who may do what.

    Every method raises `DependencyUnavailable` within 10 seconds when a needed server is away. A method that
    changes routes waits until every gateway process has switched. The result's `unconfirmed` names processes
    that did not confirm in time.
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
        key: CredentialsKey | None = None,
        endpoint: ClientEndpoint | None = None,
        enforced: bool = False,
        hindrance: Callable[[], IsolationImpossible | None] = lambda: None,
        templates: Templates | None = None,
    ) -> None:
        """`namespaces` are in the order of provisioning; they are dropped in reverse.

        `health` may check more parts than these; without it, they are all parts. With `enforced`, new
        sandboxes get credentials of their own, made with `key`, unless there is a `hindrance`. `endpoint` is
        for unmodified bots.
        """
        self._tools = Tools(
            pool=pool,
            namespaces=tuple(namespaces),
            routes=routes,
            limits=limits,
            clock=clock,
            observer=observer or NoObserver(),
            new_id=new_id,
            claims=Claims(pool),
            faults=faults,
            key=key,
            endpoint=endpoint,
            enforced=enforced,
            hindrance=hindrance,
            templates=templates or Templates(None),
        )
        self._health = health or HealthChecker(namespaces)

    async def create(
        self,
        actor: Actor,
        **asked: Unpack[Asked],
    ) -> Changed:
        """Create a running sandbox, and register the guilds with it.

        A failure or a cancellation undoes everything. Raises `InvalidInput`, `NameTaken`,
        `OwnerLimitReached`, `StorageUsedUp`, `SchemaCreationFailed`, and for the guilds as `register_guild`;
        `confirmed` is about the protected guilds among them; `DoesNotFit` for the template.
        """
        return await create(self._tools, actor, asked)

    async def create_trial(self, actor: Actor, name: str) -> Changed:
        """Create a throw-away sandbox for a trial, which belongs to nobody and expires in minutes.

        Destroy it as `trial_actor`. Raises as `create`.
        """
        return await create_trial(self._tools, actor, name)

    async def get(self, reference: str) -> Sandbox:
        """Return the live sandbox with this name, id or short id. Raises `SandboxNotFound`."""
        text, sandbox_id = _read(reference)
        async with connected(self._tools.pool) as connection:
            if _NAME_OR_ID.match(text):
                found = await sandboxes.find_live(connection, name=text, sandbox_id=sandbox_id)
                if found is not None:
                    return found
            names = await sandboxes.live_names(connection)
        near = difflib.get_close_matches(text[:NAME_MAX].lower(), names, n=3, cutoff=0.5)
        raise SandboxNotFound(reference, near)

    async def get_or_only(self, reference: str | None, *, owner: str, shared: bool = False) -> Sandbox:
        """Return the same as `get`, or without a reference the owner's only sandbox.

        With `shared`, whoever owns none means the only one that is shared with them. Raises `SandboxNotNamed`
        when there is none, or several.
        """
        if reference is not None:
            return await self.get(reference)
        own = await self.list(owner=owner) or (await self.list(owner=owner, shared=True) if shared else [])
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
            async with connected(self._tools.pool) as connection:
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
        shared: bool = False,
    ) -> Sandboxes:
        """Return the sandboxes that match all filters, newest first.

        With `shared`, those that are shared with the owner count as the owner's.
        """
        async with connected(self._tools.pool) as connection:
            return await sandboxes.select(
                connection, owner=owner, status=status, include_destroyed=include_destroyed, shared=shared
            )

    async def suggest(self, prefix: str, *, owner_first: str) -> Sandboxes:
        """Return at most 25 live sandboxes with `prefix` in their name, for an autocomplete list.

        Those of `owner_first` come first, then those shared with them, then names that start with `prefix`.
        """
        typed = prefix.strip().lower()
        if typed and not _NAME_OR_ID.match(typed):
            return []
        async with connected(self._tools.pool) as connection:
            return await sandboxes.matching(connection, typed, owner_first=owner_first, limit=_SUGGESTIONS)

    async def for_guild(self, guild_id: str) -> Sandbox | None:
        """Return the sandbox of this guild; its `routes_at` says whether it still gets events."""
        cleaned = parse_guild_id(guild_id)
        async with connected(self._tools.pool) as connection:
            return await guild_mappings.holder_of(connection, cleaned)

    async def register_guild(
        self, actor: Actor, reference: str, access: GuildAccess, *, confirmed: bool = False
    ) -> Registration:
        """Send the guild's events to the sandbox; a guild that is registered there already changes nothing.

        The result's `already` says so.

        Only the bot's owner may register a protected guild, and only with `confirmed`.
        Raises `SandboxNotFound`, `NotPermitted`, `InvalidInput`, `BotNotInGuild`, `GuildProtected`,
        `ConfirmationNeeded`, `SandboxNotRunning` or `GuildAlreadyMapped`.
        """
        sandbox = await self.get(reference)
        return await guild_steps.register(self._tools, actor, sandbox, access, confirmed=confirmed)

    async def unregister_guild(
        self, actor: Actor, access: GuildAccess, *, reference: str | None = None
    ) -> Changed:
        """Send the guild's events to production again. Return the sandbox that got them before.

        Raises `GuildNotRegistered` when no sandbox, or another than `reference`, gets them;
        `SandboxNotFound`, `InvalidInput` or `NotPermitted`.
        """
        expected = None if reference is None else await self.get(reference)
        return await guild_steps.unregister(self._tools, actor, access, expected)

    async def extend(
        self, actor: Actor, reference: str, duration: str, *, cause_id: str | None = None
    ) -> Extension:
        """Add to the current expiry, up to the longest life from the creation.

        A longer duration is shortened, and the result is `capped`. `cause_id` is the id of the message
        that asks for it: the gateway sends one again to a process that takes over from a killed one, and time
        is added for it once. Raises `SandboxNotFound`, `NotPermitted`, `InvalidInput` or `SandboxNotRunning`.
        """
        sandbox = await self.get(reference)
        rules.may_change(actor, sandbox, "extend")
        limit = self._tools.limits.max_ttl
        # A sandbox has an age, so `limit` itself is always more than can be added.
        added = parse_duration(duration, maximum=limit, field="duration", capped=True)
        now = self._tools.clock()
        async with transaction(self._tools.pool) as connection:
            current = await guild_steps.locked(connection, sandbox)
            done = None
            if cause_id is not None:
                done = await audit.details_for(connection, current.id, AuditEvent.TTL_EXTENDED, cause_id)
            if done is None:
                rules.must_run(current, now)
                wished = current.expires_at + added
                # The setting may be lower by now; an extension never shortens a life.
                expires_at = max(current.expires_at, min(wished, current.created_at + limit))
                await sandboxes.set_expiry(connection, current.id, expires_at)
                await sandboxes.touch(connection, current.id, now)
                done = {
                    "from": current.expires_at.isoformat(),
                    "to": expires_at.isoformat(),
                    "capped": expires_at < wished,
                    **({} if cause_id is None else {"cause_id": cause_id}),
                }
                await audit.record(
                    connection, current.id, AuditEvent.TTL_EXTENDED, actor=actor, at=now, details=done
                )
            extended = await guild_steps.locked(connection, current)
        changed = await self._tools.send_to(extended)
        await credential_steps.prolong(self._tools, extended)
        return Extension(extended, changed.unconfirmed, capped=done["capped"])

    async def rotate(self, actor: Actor, reference: str) -> Changed:
        """Give the sandbox new credentials, and cut the old ones and their connections.

        Raises `SandboxNotFound`, `NotPermitted`, `SandboxNotRunning` or `NoCredentials`. When a store is
        away, `RotationUnfinished`: the bot continues it.
        """
        return await credential_steps.rotate(self._tools, actor, await self.get(reference))

    async def set_rest_level(
        self, actor: Actor, reference: str, level: RestLevel, accesses: Sequence[GuildAccess] = ()
    ) -> Changed:
        """Change what a bot in the sandbox may do at Discord, in the sandbox's guilds.

        A higher level needs the right to register each guild, so `accesses` has the caller's rights there.
        Raises `SandboxNotFound`, `NotPermitted`, `GuildProtected`, `BotNotInGuild` or `SandboxNotRunning`.
        """
        sandbox = await self.get(reference)
        return await level_steps.set_level(self._tools, actor, sandbox, level, accesses)

    async def share(self, actor: Actor, reference: str, colleague: Colleague, access: ShareAccess) -> Sharing:
        """Let a colleague see the sandbox, or work in it with credentials of their own.

        Raises `SandboxNotFound`, and as `rules.may_share`. When a store is away, `SharingUnfinished`: the bot
        continues it.
        """
        return await sharing.share(self._tools, actor, await self.get(reference), colleague, access)

    async def unshare(self, actor: Actor, reference: str, user_id: str) -> Sharing:
        """Take a colleague's access away, cut their connections, and refuse their credentials for ever.

        The sandbox's own connections to PostgreSQL are cut as well, and may come back. Raises
        `SandboxNotFound`, `NotPermitted`, `InvalidInput` or `SharingUnfinished`.
        """
        return await sharing.unshare(self._tools, actor, await self.get(reference), user_id)

    def credentials(self, sandbox: Sandbox) -> dict[str, str]:
        """Return the variables with the sandbox's own logins, for its owner only; empty when it has none.

        Raises `NoCredentials` when they were made with another key than the present one.
        """
        return credential_steps.variables(self._tools, sandbox)

    async def reset(self, actor: Actor, reference: str, *, template: str | None = None) -> Changed:
        """Make the sandbox's parts anew, without what they store, with the same template or another one.

        Its guilds, credentials, level and expiry stay. Raises `SandboxNotFound`, `NotPermitted`,
        `SandboxNotRunning`, `NoCredentials` when they were made with another key, `DoesNotFit` when the
        template does not fit, and nothing was changed, or `ResetUnfinished`.
        """
        return await resets.reset(self._tools, actor, await self.get(reference), template)

    async def templates(self) -> Names:
        """Return the names of all templates."""
        return await self._tools.templates.names()

    async def check_reset(self, actor: Actor, reference: str, *, template: str | None = None) -> Sandbox:
        """Raise what `reset` would raise now, for a caller that asks a question first; return the sandbox."""
        sandbox = await self.get(reference)
        await resets.check(self._tools, actor, sandbox, template)
        return sandbox

    def credentials_for(self, actor: Actor, sandbox: Sandbox) -> dict[str, str]:
        """Return the variables with the logins to show to this person: a colleague's are their own.

        Raises `NotPermitted` and as `credentials`.
        """
        rules.may_change(actor, sandbox, rules.CONNECT)
        share = None if actor.id == sandbox.owner else sandbox.share_of(actor.id)
        return credential_steps.variables(self._tools, sandbox, "" if share is None else share.login)

    async def destroy(self, actor: Actor, reference: str) -> Changed:
        """Destroy the sandbox and everything in it; its guilds' events go to production first.

        Raises `SandboxNotFound`, `NotPermitted`, `SandboxNotRunning` during its creation, or `CleanupFailed`;
        then it stays `destroying`, and another call continues.
        """
        return await teardown.destroy(self._tools, actor, await self.get(reference))

    def check_may_manage(self, actor: Actor, sandbox: Sandbox, verb: str = "manage") -> None:
        """Raise `NotPermitted` unless the actor may do this: see `rules.COLLEAGUES`.

        `verb` names the action, also in the error's text.
        """
        rules.may_change(actor, sandbox, verb)

    def check_running(self, sandbox: Sandbox) -> None:
        """Raise `SandboxNotRunning` unless the sandbox gets events now; past its expiry it does not."""
        rules.must_run(sandbox, self._tools.clock())

    async def check_create(
        self,
        actor: Actor,
        **asked: Unpack[Asked],
    ) -> None:
        """Raise what `create` would raise now, for a caller that asks the user a question first.

        `ConfirmationNeeded` comes last: then only the confirmation is missing.
        """
        await check_create(self._tools, actor, asked)

    async def check_register_guild(
        self, actor: Actor, sandbox: Sandbox, access: GuildAccess, *, confirmed: bool = False
    ) -> None:
        """Raise what `register_guild` would raise now; `ConfirmationNeeded` comes last."""
        await guild_steps.check(self._tools, actor, sandbox, access, confirmed=confirmed)

    async def audit(self, reference: str, *, limit: int = 50) -> AuditEntries:
        """Return the newest `limit` entries of the audit log about one sandbox, oldest first.

        A destroyed sandbox is found by its id, and by its name or short id if no newer sandbox has it. Raises
        `SandboxNotFound`.
        """
        sandbox_id = await self._ever(reference)
        async with connected(self._tools.pool) as connection:
            return await audit.entries(connection, sandbox_id, limit=limit)

    async def health(self, reference: str) -> SandboxHealth:
        """Check each part of the sandbox now; a store that is away is a result, not an error."""
        return await self._health.check(await self.get(reference))


def _read(reference: str) -> tuple[str, UUID | None]:
    """Return the reference as in the table, and the id if it is one."""
    text = reference.strip()
    if _ID.match(text) or _SHORT_ID.match(text):
        text = text.lower()
    return text, UUID(text) if _ID.match(text) else None
