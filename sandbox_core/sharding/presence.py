"""Whether the process that holds leases is gone, before they have lapsed.

A process that is killed leaves nothing behind, and waiting until its leases lapse costs its events six
seconds; and who only starts when they have lapsed waits as long once more, as the database may have been away
from everybody. Its leases are taken at once when both servers say that it is gone:

- PostgreSQL: the session by which it says that it lives is over (see `postgres.sessions`).
- NATS: nobody hears the subject on which it answers to its id. The server tells that at once. It is asked
  twice, and in between the asker calls itself, which proves that its own connection stands and that such
  subjects may be heard.

Neither alone is enough. A process that is cut off from PostgreSQL alone answers over NATS; one that is
frozen keeps both connections, and does not answer, which is no "nobody hears it"; while NATS restarts
everybody is missing there, and their sessions in PostgreSQL are not; after a restart of PostgreSQL nothing is
said of earlier sessions. A process whose connections to both were lost, while it lives, is harmed by nobody,
and harms nobody: it can only publish over a new connection to NATS, and then it sends nothing before it has
asked PostgreSQL for its lease (`LeaseKeeper.nats_is_back`).

So the order of things proves it. The taker reads the lease, asks NATS, and then takes the lease only if it
was not renewed since it was read, in one UPDATE: of two takers one finds it so, and a holder that came back
in between has renewed it or finds it gone.

In a cluster of NATS servers one that has lost its route to another does not know who is connected there. That
is why PostgreSQL has to say it, too: between machines that can't reach each other a session does not end, it
hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.peer_subject import PeerSubject
from sandbox_core.subjects import gateway_process_subject

if TYPE_CHECKING:
    from nats.aio.msg import Msg

_log = structlog.get_logger("sandbox.gateway")

_ANSWER_WITHIN = 0.5
_ASK_AGAIN_AFTER = 0.1
"""Seconds. In a cluster every server knows by then who is connected to another one."""


class Presence:
    """Answers for this process, and tells whether others are gone. `sleep` is in seconds."""

    def __init__(
        self,
        connection: NatsConnection,
        application_id: int,
        process_id: UUID,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = connection
        self._application_id = application_id
        self._own = self._subject_of(process_id)
        self._peers = PeerSubject(connection, self._own)
        self._sleep = sleep

    async def start(self) -> None:
        """Answer from now on, also after reconnects; before this process takes a lease."""
        await self._peers.hear(self._on_question)

    async def close(self) -> None:
        """Answer no more, after the leases are given up; harmless when never started."""
        await self._peers.close()

    async def is_gone(self, process_id: UUID) -> bool:
        """True when NATS has no connection of that process; False when it has, or that can't be told."""
        disconnects = self._peers.disconnects
        theirs = self._subject_of(process_id)
        for subject, expected in ((theirs, False), (self._own, True), (theirs, False)):
            found = await self._peers.is_there(subject, within=_ANSWER_WITHIN)
            if found is not expected:
                _log.debug("holder_not_gone", process=str(process_id), asked=subject, is_there=found)
                return False
            if subject == self._own:
                await self._sleep(_ASK_AGAIN_AFTER)
        return self._peers.disconnects == disconnects

    def _subject_of(self, process_id: UUID) -> str:
        return gateway_process_subject(self._application_id, process_id)

    async def _on_question(self, message: Msg) -> None:
        await self._peers.answer(message, b"")
