"""Answers the sandboxes' NATS server, which asks who may log in.

Every bot process answers, and the server takes the first answer. One that does not know, because PostgreSQL
is away, says nothing: another process may know. Without any answer the server refuses the login.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sandbox_core import tasks
from sandbox_core.credentials import redis_hash
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.subjects import sandbox_of_user, slot_account

from ..connection import NatsConnection
from .configuration import LOGIN_WITHIN
from .keys import TenantKeys
from .permissions import worker_permissions
from .tokens import LoginRequest, UnreadableRequest, granting, read_request, refusing

_log = structlog.get_logger("sandbox.nats")

_SUBJECT = "$SYS.REQ.USER.AUTH"
_AT_ONCE = 8
"""Logins that are looked up at the same time."""
_WAITING_AT_MOST = 64
"""Logins that wait for that; more of them, a flood, are left without an answer, and so refused."""


@dataclass(frozen=True, slots=True)
class SlotLogin:
    """The present login of the sandbox in a slot."""

    slot: int
    generation: int
    password_hash: str
    until: datetime
    """When the login ends."""
    at_most_until: datetime
    """When the sandbox ends at the latest, however often it is extended."""


LoginOf = Callable[[UUID], Awaitable[SlotLogin | None]]
"""Finds a sandbox's login. Raises `DependencyUnavailable`."""


class CalloutResponder:
    """Lets the workers of running sandboxes in; its connection is that of the user `auth`."""

    def __init__(
        self,
        connection: NatsConnection,
        keys: TenantKeys,
        login_of: LoginOf,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._login_of = login_of
        self._clock = clock
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._answering: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self.granted = 0
        self.refused = 0
        self.unanswered = 0
        """Logins that got no answer from this process: PostgreSQL was away, or there were too many."""

    async def start(self) -> None:
        """Begin to answer, in this connection and all later ones of the client."""
        if self._subscription is None:
            self._subscription = await self._connection.client.subscribe(_SUBJECT, cb=self._asked)

    async def close(self) -> None:
        """Answer no more."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self._connection.connected:
            await subscription.unsubscribe()
        await tasks.end(*self._answering)

    async def _asked(self, message: Msg) -> None:
        if len(self._answering) >= _AT_ONCE + _WAITING_AT_MOST:
            self.unanswered += 1
            return
        task = asyncio.create_task(self._answer(message), name="nats-login")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Msg) -> None:
        try:
            async with asyncio.timeout(LOGIN_WITHIN), self._places:
                answer = await self.judge(message.data)
            await self._connection.client.publish(message.reply, answer)
        except UnreadableRequest as error:
            _log.warning("nats_login_unreadable", reason=str(error))
        except (DependencyUnavailable, TimeoutError, OSError, nats.errors.Error) as error:
            self.unanswered += 1
            _log.warning("nats_login_unanswered", reason=str(error) or type(error).__name__)

    async def judge(self, token: bytes) -> bytes:
        """Return the signed answer to a server's request.

        Raises `UnreadableRequest`, and `DependencyUnavailable` when it can't be told.
        """
        request = read_request(token)
        sandbox_id = sandbox_of_user(request.user)
        found = None if sandbox_id is None else await self._login_of(UUID(sandbox_id))
        now = self._clock()
        if sandbox_id is None or found is None:
            return self._refuse(request, sandbox_id, "no sandbox has this login", now)
        if not hmac.compare_digest(redis_hash(request.password), found.password_hash):
            return self._refuse(request, sandbox_id, "the password is not the present one", now)
        if now >= found.until:
            return self._refuse(request, sandbox_id, "the sandbox has expired", now)
        self.granted += 1
        return granting(
            self._keys.issuer,
            request,
            account=slot_account(found.slot),
            name=connection_name(sandbox_id, found.generation),
            permissions=worker_permissions(sandbox_id),
            at=now,
            until=found.at_most_until,
        )

    def _refuse(self, request: LoginRequest, sandbox_id: str | None, why: str, now: datetime) -> bytes:
        self.refused += 1
        # Nothing else that the client sent: a password may stand where its name should.
        _log.info("nats_worker_refused", sandbox_id=sandbox_id, host=request.host, reason=why)
        return refusing(self._keys.issuer, request, why=why, at=now)


def connection_name(sandbox_id: UUID | str, generation: int) -> str:
    """What the server shows of a worker's connection: whose it is, and of which login."""
    return f"{sandbox_id}:{generation}"
