"""A login to the sandboxes' NATS server for each sandbox, confined to the account of its slot."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import partial
from uuid import UUID

from sandbox_core.addresses import NatsAddress
from sandbox_core.credentials import CredentialsKey, redis_hash
from sandbox_core.errors import DependencyUnavailable, IsolationImpossible
from sandbox_core.guests import guest_user
from sandbox_core.models import Sandbox
from sandbox_core.nats.tenant.callout import LoginOf, SlotLogin
from sandbox_core.nats.tenant.servers import NO_ACCOUNTS, TenantServers, WorkerLogin, numbers_of
from sandbox_core.postgres import nats_slots, shares
from sandbox_core.postgres.pool import Pool, connected
from sandbox_core.postgres.shares import GuestRow
from sandbox_core.subjects import sandbox_user

from .nats_lending import SlotLending

STORE = "NATS"
MINIMUM = (2, 12, 6)
"""Older versions send the trace of a message to any subject that its header `Nats-Trace-Dest` names, whatever
the login may publish to; tried with 2.11.11 and 2.12.5."""


class SlotLogins:
    """The logins `sandbox-{id}`; see `Credentials`. PostgreSQL has them, and the NATS server asks the bot."""

    def __init__(
        self,
        pool: Pool,
        servers: TenantServers,
        address: NatsAddress,
        key: CredentialsKey,
        lending: SlotLending,
        *,
        longest_life: timedelta,
    ) -> None:
        """`address` is the server's as workers reach it; `longest_life` is from a sandbox's creation."""
        self._pool = pool
        self._servers = servers
        self._address = address
        self._key = key
        self._lending = lending
        self._longest_life = longest_life

    async def require(self) -> None:
        """Do as `Credentials` documents."""
        try:
            slots = await self._servers.slots()
        except DependencyUnavailable as error:
            if error.problem != NO_ACCOUNTS:
                raise
            slots = frozenset()
        if not slots:
            raise IsolationImpossible(
                STORE,
                self._servers.where,
                "its configuration has no accounts for sandboxes",
                "Start it with the configuration that `sandboxctl tenant-nats` prints.",
            )
        version = await self._servers.version()
        if numbers_of(version) < MINIMUM:
            least = ".".join(map(str, MINIMUM))
            raise IsolationImpossible(
                STORE,
                self._servers.where,
                f"it is nats-server {version}, which lets a sandbox's traces through to others",
                f"SANDBOX_NATS_URL must name nats-server {least} or newer.",
            )

    async def make(self, sandbox: Sandbox) -> None:
        """Do as `Credentials` documents; a sandbox from before this server gets its slot."""
        if await self._lending.slot_of(sandbox.id) is None:
            await self._lending.take(sandbox.id)
        made = self._key.made(sandbox)
        generation, password_hash = sandbox.generation, self._hash(sandbox)
        async with connected(self._pool) as connection:
            if not made:
                row = await nats_slots.of_sandbox(connection, sandbox.id)
                if row is None or not row.generation:
                    return
                generation, password_hash = row.generation, row.password_hash
            await nats_slots.set_login(
                connection,
                sandbox.id,
                generation=generation,
                password_hash=password_hash,
                until=sandbox.expires_at,
                at_most_until=max(sandbox.expires_at, sandbox.created_at + self._longest_life),
            )
            for guest in sandbox.guests if made else ():
                await shares.set_nats_login(
                    connection,
                    sandbox.id,
                    guest,
                    generation=sandbox.generation,
                    password_hash=self._hash(sandbox, guest),
                )

    async def cut(self, sandbox: Sandbox) -> None:
        """Do as `Credentials` documents."""
        async with connected(self._pool) as connection:
            row = await nats_slots.of_sandbox(connection, sandbox.id)
            guests = await shares.guests(connection, sandbox.id)
        if row is not None:
            present = _present(row, guests)
            await self._servers.cut(row.slot, lambda each: each.login not in present)

    async def revoke(self, sandbox: Sandbox) -> None:
        """Do as `Credentials` documents."""
        async with connected(self._pool) as connection:
            await nats_slots.clear_login(connection, sandbox.id)
            row = await nats_slots.of_sandbox(connection, sandbox.id)
        if row is not None:
            await self._servers.cut(row.slot)

    async def lacking(self, sandboxes: Collection[Sandbox]) -> set[UUID]:
        """Do as `Credentials` documents; also those with a connection of an older login.

        A connection that no login stands for any more is ended here: its client had begun to log in before
        the end of its sandbox, and finished afterwards.
        """
        # In this order: a row is not older than the connections that it is compared with.
        connections = await self._servers.connections()
        async with connected(self._pool) as connection:
            rows = {row.sandbox_id: row for row in await nats_slots.taken(connection)}
            guests: dict[UUID, list[GuestRow]] = defaultdict(list)
            for guest in await shares.guests(connection):
                guests[guest.sandbox_id].append(guest)
        by_slot = {row.slot: row for row in rows.values()}
        stale: set[UUID] = set()
        for each in connections:
            row = by_slot.get(each.slot)
            if row is None or not row.generation:
                await self._servers.cut(each.slot, partial(operator.eq, each))
            elif each.login not in _present(row, guests[row.sandbox_id]):
                stale.add(row.sandbox_id)
        return {
            each.id
            for each in sandboxes
            if self._key.made(each)
            and (each.id in stale or not self._has(each, rows.get(each.id), guests[each.id]))
        }

    def _has(self, sandbox: Sandbox, row: nats_slots.SlotRow | None, guests: Collection[GuestRow]) -> bool:
        present = (sandbox.generation, self._hash(sandbox), sandbox.expires_at)
        if row is None or (row.generation, row.password_hash, row.until) != present:
            return False
        made = {(each.login, each.generation, each.password_hash) for each in guests}
        return {(each, sandbox.generation, self._hash(sandbox, each)) for each in sandbox.guests} <= made

    def variables(self, sandbox: Sandbox, guest: str = "") -> Mapping[str, str]:
        """Return `NATS_URL`."""
        password = self._key.password(STORE, sandbox, guest)
        return {"NATS_URL": self._address.url_of(guest_user(sandbox_user(sandbox.id), guest), password)}

    def _hash(self, sandbox: Sandbox, guest: str = "") -> str:
        return redis_hash(self._key.password(STORE, sandbox, guest))


def _present(row: nats_slots.SlotRow, guests: Collection[GuestRow]) -> set[WorkerLogin]:
    """Return the logins that are valid in the slot now."""
    logins = [each.login for each in guests if each.generation == row.generation]
    return {WorkerLogin(str(row.sandbox_id), row.generation, each) for each in ("", *logins)}


def logins_in(pool: Pool) -> LoginOf:
    """Return where the server's questions are looked up."""

    async def login_of(sandbox_id: UUID, guest: str) -> SlotLogin | None:
        async with connected(pool) as connection:
            row = await nats_slots.of_sandbox(connection, sandbox_id)
            guests = await shares.guests(connection, sandbox_id) if guest else ()
        if row is None or row.until is None or row.at_most_until is None:
            return None
        password_hash: str | None = row.password_hash
        if guest:
            hashes = {each.login: each.password_hash for each in guests if each.generation == row.generation}
            password_hash = hashes.get(guest)
        if password_hash is None:
            return None
        return SlotLogin(row.slot, row.generation, password_hash, row.until, row.at_most_until)

    return login_of
