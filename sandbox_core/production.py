"""The token of production's own unmodified bot for the endpoint: made, shown, rotated, revoked.

As a sandbox's it is made from the operator's key, and can be shown again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from .client_endpoint import PRODUCTION, ClientEndpoint
from .errors import NotPermitted, ProductionTokenOutdated
from .models import Actor, AuditEntry, AuditEvent
from .postgres import audit, transaction
from .postgres.pool import Connection, Pool, connected
from .postgres.production import TokenRow, read, write

MOST_SERVERS = 100
"""The most servers of a bot that gets production's side from the endpoint."""


@dataclass(frozen=True, slots=True)
class ProductionAccess:
    """The variables for production's bot, with its token; `made` says that the token is a new one."""

    variables: dict[str, str]
    made: bool


class ProductionToken:
    """For the bot's owner alone. Methods raise `NotPermitted`, and `DependencyUnavailable`."""

    def __init__(
        self,
        pool: Pool,
        endpoint: ClientEndpoint,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._clock = clock

    async def show(self, actor: Actor) -> ProductionAccess:
        """Return the present token; the first, and the first after a revocation, is made here.

        Raises `ProductionTokenOutdated` when it was made with another key than the bot's.
        """
        _check(actor, "read")
        async with transaction(self._pool) as connection:
            row = await read(connection, lock=True)
            made = row is None or not row.valid
            if row is None or made:
                row = await self._next(connection, actor, row, "made")
        if row.key_id != self._endpoint.key.fingerprint:
            raise ProductionTokenOutdated
        return ProductionAccess(self._endpoint.production_variables(row.generation), made)

    async def rotate(self, actor: Actor) -> ProductionAccess:
        """Return a new token; the endpoint ends what has the old one within a second."""
        _check(actor, "rotate")
        async with transaction(self._pool) as connection:
            row = await self._next(connection, actor, await read(connection, lock=True), "rotated")
        return ProductionAccess(self._endpoint.production_variables(row.generation), made=True)

    async def revoke(self, actor: Actor) -> bool:
        """Let no token be valid. Return whether one was."""
        _check(actor, "revoke")
        async with transaction(self._pool) as connection:
            row = await read(connection, lock=True)
            if row is None or not row.valid:
                return False
            await write(connection, TokenRow(row.generation, row.key_id, valid=False))
            await self._note(connection, actor, "revoked", row.generation)
        return True

    async def _next(self, connection: Connection, actor: Actor, row: TokenRow | None, what: str) -> TokenRow:
        number = 1 if row is None else row.generation + 1
        made = TokenRow(number, self._endpoint.key.fingerprint, valid=True)
        await write(connection, made)
        await self._note(connection, actor, what, number)
        return made

    async def _note(self, connection: Connection, actor: Actor, what: str, number: int) -> None:
        await audit.record(
            connection,
            PRODUCTION,
            AuditEvent.PRODUCTION_ACCESS_CHANGED,
            actor=actor,
            at=self._clock(),
            details={"what": what, "number": number},
        )


async def history(pool: Pool, *, limit: int) -> list[AuditEntry]:
    """Return who changed production's token, oldest first. Raises `DependencyUnavailable`."""
    async with connected(pool) as connection:
        return await audit.entries(connection, PRODUCTION, limit=limit)


def check_owner(actor: Actor, what: str) -> None:
    """Raise `NotPermitted` unless the bot's owner asks; `what` says for which of production's."""
    if not actor.is_bot_owner:
        raise NotPermitted(what, "the bot's owner")


def _check(actor: Actor, verb: str) -> None:
    check_owner(actor, f"{verb} production's token")
