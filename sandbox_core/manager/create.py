"""Creates a sandbox completely, or leaves nothing behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict

from sandbox_core.errors import (
    CutOff,
    DependencyUnavailable,
    NameTaken,
    OutcomeUnknown,
    OwnerLimitReached,
    SandboxError,
    SchemaCreationFailed,
)
from sandbox_core.models import Actor, AuditEvent, GuildAccess, Sandbox, SandboxStatus
from sandbox_core.namespaces import Namespace, SchemaProvisioner
from sandbox_core.postgres import Connection, audit, connected, sandboxes, transaction
from sandbox_core.postgres.errors import ShortIdTakenError
from sandbox_core.tasks import after_commit
from sandbox_core.templates import Template
from sandbox_core.validation import generate_name, parse_duration, parse_name

from . import credentials as credential_steps
from . import guilds as guild_steps
from . import rules, teardown
from .ports import Changed, ManagerLimits, Tools
from .storage import refuse_full

_ATTEMPTS = 8
"""The most ids or generated names to try; even a second try is rare."""


class Asked(TypedDict, total=False):
    """The arguments of a creation."""

    name: str | None
    """By default it is generated from the actor's name."""
    ttl: str | None
    """The time to live, as `parse_duration` reads it; by default the setting's."""
    guilds: Sequence[GuildAccess]
    """The guilds to register with it."""
    confirmed: bool
    """Whether the actor has confirmed the protected guilds among them."""
    template: str | None
    """The name of the template that it begins with; by default the default one, if there is one."""


async def create(tools: Tools, actor: Actor, asked: Asked) -> Changed:
    """Create a running sandbox with its guilds registered."""
    started = time.perf_counter()
    try:
        created = await _Creation(tools, actor).run(asked)
    except BaseException as error:
        with after_commit("metrics"):
            tools.observer.create_failed(_failure(error), time.perf_counter() - started)
        raise
    with after_commit("metrics"):
        tools.observer.created(time.perf_counter() - started)
    return created


async def check(tools: Tools, actor: Actor, asked: Asked) -> None:
    """Raise what `create` would raise now, `ConfirmationNeeded` last. Changes nothing."""
    chosen, _ = _read(tools.limits, asked)
    guild_ids = _guild_ids(tools.limits, actor, {**asked, "confirmed": True})
    await tools.templates.chosen(asked.get("template"))
    await guild_steps.refuse_mapped(tools, guild_ids)
    await refuse_full(tools, actor.id)
    try:
        async with connected(tools.pool) as connection:
            await sandboxes.refuse(connection, chosen, owner=actor.id, limit=tools.limits.max_per_owner)
    except NameTaken as error:
        raise await _told_whose(tools, actor, error) from None
    _guild_ids(tools.limits, actor, asked)


def _read(limits: ManagerLimits, asked: Asked) -> tuple[str | None, timedelta]:
    name, ttl = asked.get("name"), asked.get("ttl")
    chosen = None if name is None else parse_name(name)
    life = limits.default_ttl if ttl is None else parse_duration(ttl, maximum=limits.max_ttl)
    return chosen, life


def _guild_ids(limits: ManagerLimits, actor: Actor, asked: Asked) -> list[str]:
    return rules.may_divert_all(
        actor, asked.get("guilds", ()), limits, confirmed=asked.get("confirmed", False)
    )


async def _told_whose(tools: Tools, actor: Actor, error: NameTaken) -> NameTaken:
    """Return the error with the status of the actor's own sandbox, if it is the one that has the name.

    The answer to its creation may have been lost.
    """
    try:
        async with connected(tools.pool) as connection:
            holder = await sandboxes.find_live(connection, name=error.name, sandbox_id=None)
    except DependencyUnavailable:
        return error
    if holder is None or holder.name != error.name or holder.owner != actor.id:
        return error
    return NameTaken(error.name, holder.status)


def _failure(error: BaseException) -> str:
    if isinstance(error, SandboxError):
        return error.code
    return "CANCELLED" if isinstance(error, asyncio.CancelledError) else "INTERNAL"


class _Creation:
    """One creation; it remembers what it has created, to undo it after a failure."""

    def __init__(self, tools: Tools, actor: Actor) -> None:
        self._tools = tools
        self._actor = actor
        self._made: list[Namespace] = []
        self._template: Template | None = None

    async def run(self, asked: Asked) -> Changed:
        limits = self._tools.limits
        chosen, life = _read(limits, asked)
        guild_ids = _guild_ids(limits, self._actor, asked)
        self._template = await self._tools.templates.chosen(asked.get("template"))
        # The insert of the mapping decides. This check only avoids work before an obvious refusal.
        await guild_steps.refuse_mapped(self._tools, guild_ids)
        await refuse_full(self._tools, self._actor.id)
        if self._tools.enforced:
            await credential_steps.require(self._tools)

        for _ in range(_ATTEMPTS):
            draft = self._draft(chosen or generate_name(self._actor.display_name), life)
            try:
                return await self._make(draft, guild_ids)
            except ShortIdTakenError:
                continue
            except NameTaken as error:
                if chosen is not None:
                    raise await _told_whose(self._tools, self._actor, error) from error
        raise SchemaCreationFailed(draft.schema_name, "no free name was found")

    def _draft(self, name: str, life: timedelta) -> Sandbox:
        sandbox_id = self._tools.new_id()
        now = self._tools.clock()
        owner_name = self._actor.display_name
        key = self._tools.key if self._tools.enforced else None
        return Sandbox(
            id=sandbox_id,
            name=name,
            owner=self._actor.id,
            status=SandboxStatus.PENDING,
            schema_name=SchemaProvisioner.generate_schema_name(sandbox_id),
            created_at=now,
            expires_at=now + life,
            metadata={"owner_name": owner_name} if owner_name else {},
            generation=0 if key is None else 1,
            key_id="" if key is None else key.fingerprint,
            template="" if self._template is None else self._template.name,
        )

    async def _make(self, draft: Sandbox, guild_ids: list[str]) -> Changed:
        try:
            # By the session that has the claim others see at once when this process is gone.
            async with self._tools.claims.hold(draft.id):
                sandbox = await self._insert(draft)
                await self._tools.faults("create:inserted")
                await self._provision(sandbox)
                running = await self._start(sandbox, guild_ids)
            await self._tools.faults("create:running")
            created = await self._tools.send_to(running)
            await self._tools.faults("create:routes")
        except (NameTaken, OwnerLimitReached, ShortIdTakenError):
            # The insert refused it, and its transaction was rolled back: there is nothing to undo.
            raise
        except BaseException as error:
            undone = await self._undo(draft, error)
            if undone and isinstance(error, OutcomeUnknown):
                # Now it is known: nothing is left.
                raise DependencyUnavailable(error.dependency, error.problem, error.where) from error
            if undone or isinstance(error, OutcomeUnknown) or not isinstance(error, DependencyUnavailable):
                raise
            # Something of it is left until cleanup has removed it, such as its name.
            raise CutOff(error) from error
        return created

    async def _insert(self, draft: Sandbox) -> Sandbox:
        limit, session = self._tools.limits.max_per_owner, await self._tools.claims.session()
        async with transaction(self._tools.pool) as connection:
            await sandboxes.insert(connection, draft, limit=limit, creator_session=session)
            await audit.record(
                connection,
                draft.id,
                AuditEvent.CREATED,
                actor=self._actor,
                at=draft.created_at,
                details={
                    "name": draft.name,
                    "schema_name": draft.schema_name,
                    "expires_at": draft.expires_at.isoformat(),
                    **({"template": draft.template} if draft.template else {}),
                },
            )
            creating = await sandboxes.set_status(
                connection, draft.id, SandboxStatus.PENDING, SandboxStatus.CREATING, at=draft.created_at
            )
            await self._record_status(connection, creating, SandboxStatus.PENDING)
        return creating

    async def _provision(self, sandbox: Sandbox) -> None:
        for namespace in self._tools.namespaces:
            try:
                await teardown.bounded(namespace.store, namespace.provision(sandbox))
            except asyncio.CancelledError:
                # On a cancellation the part may exist already.
                self._made.append(namespace)
                raise
            self._made.append(namespace)
            await self._tools.faults(f"create:{namespace.store}")
            if self._template is not None and namespace.store == SchemaProvisioner.store:
                limit = self._template.within.total_seconds() + teardown.STEP_TIMEOUT
                await teardown.bounded(namespace.store, namespace.fill(sandbox, self._template), within=limit)
                await self._tools.faults("create:template")

    async def _start(self, sandbox: Sandbox, guild_ids: list[str]) -> Sandbox:
        await self._tools.routes.settled(guild_ids)
        now = self._tools.clock()
        async with transaction(self._tools.pool) as connection:
            running = await sandboxes.set_status(
                connection, sandbox.id, SandboxStatus.CREATING, SandboxStatus.RUNNING, at=now
            )
            await self._record_status(connection, running, SandboxStatus.CREATING)
            for guild_id in guild_ids:
                await guild_steps.map_guild(connection, self._actor, running, guild_id, at=now)
            return await guild_steps.locked(connection, running)

    async def _record_status(self, connection: Connection, sandbox: Sandbox, before: SandboxStatus) -> None:
        await audit.record(
            connection,
            sandbox.id,
            AuditEvent.STATUS_CHANGED,
            actor=self._actor,
            at=self._tools.clock(),
            details={"from": before.value, "to": sandbox.status.value},
        )

    async def _undo(self, draft: Sandbox, cause: BaseException) -> bool:
        """Undo what was made, and return whether nothing of it is left."""
        work = asyncio.ensure_future(
            teardown.undo(self._tools, self._actor, draft.id, tuple(self._made), cause)
        )
        # A second cancellation must not interrupt the undo, which has its own timeout. The caller's error
        # is raised in any case.
        while not work.done():
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                if work.cancelled():
                    raise
        return work.result()
