"""Answers the sandboxes' NATS server, which asks who may log in.

Every bot process answers, and the server takes the first answer. One that does not know, because PostgreSQL
is away, says nothing: another process may know. Without any answer the server refuses the login.
"""

from __future__ import annotations

import asyncio
import hmac
import time
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
from sandbox_core.guests import read_user
from sandbox_core.subjects import slot_account

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
"""Logins that wait for that."""
_HOSTS_AT_MOST = 1000
_SAY_AGAIN_AFTER = 60.0


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


@dataclass(frozen=True, slots=True)
class LoginRates:
    """How many logins are looked at: so many a second, and so many at once before.

    This process has production's events to publish. More logins, a flood, are left without an answer, and so
    refused. One host alone can't use up what there is.
    """

    a_second: float = 50
    at_once: float = 100
    a_second_of_one_host: float = 10
    at_once_of_one_host: float = 40


class Allowance:
    """So many things a second, after so many at once."""

    def __init__(self, a_second: float, at_first: float, monotonic: Callable[[], float]) -> None:
        self._a_second = a_second
        self._most = self._left = at_first
        self._monotonic = monotonic
        self._as_of = monotonic()

    def take(self) -> bool:
        """Take one. False when none is left now."""
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._as_of) * self._a_second)
        self._as_of = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


LoginOf = Callable[[UUID, str], Awaitable[SlotLogin | None]]
"""Finds a sandbox's login, or that of one of its guests. Raises `DependencyUnavailable`."""


class CalloutResponder:
    """Lets the workers of running sandboxes in; its connection is that of the user `auth`."""

    def __init__(
        self,
        connection: NatsConnection,
        keys: TenantKeys,
        login_of: LoginOf,
        *,
        rates: LoginRates = LoginRates(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`monotonic` is the clock in seconds."""
        self._connection = connection
        self._keys = keys
        self._login_of = login_of
        self._clock = clock
        self._rates = rates
        self._all = Allowance(rates.a_second, rates.at_once, monotonic)
        self._hosts: dict[str, Allowance] = {}
        self._monotonic = monotonic
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._answering: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._said_flooded = -_SAY_AGAIN_AFTER
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
        try:
            request = read_request(message.data)
        except UnreadableRequest as error:
            _log.warning("nats_login_unreadable", reason=str(error))
            return
        if len(self._answering) >= _AT_ONCE + _WAITING_AT_MOST or not self._may_ask(request.host):
            self._flooded()
            return
        task = asyncio.create_task(self._answer(request, message.reply), name="nats-login")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def _may_ask(self, host: str) -> bool:
        if len(self._hosts) >= _HOSTS_AT_MOST:
            self._hosts.clear()
        of_host = self._hosts.get(host)
        if of_host is None:
            rates = self._rates
            of_host = Allowance(rates.a_second_of_one_host, rates.at_once_of_one_host, self._monotonic)
            self._hosts[host] = of_host
        return of_host.take() and self._all.take()

    def _flooded(self) -> None:
        self.unanswered += 1
        if self._monotonic() - self._said_flooded >= _SAY_AGAIN_AFTER:
            self._said_flooded = self._monotonic()
            _log.warning("nats_logins_flooded", unanswered=self.unanswered)

    async def _answer(self, request: LoginRequest, reply: str) -> None:
        try:
            async with asyncio.timeout(LOGIN_WITHIN), self._places:
                answer = await self.judge(request)
            await self._connection.client.publish(reply, answer)
        except (DependencyUnavailable, TimeoutError, OSError, nats.errors.Error) as error:
            self.unanswered += 1
            _log.warning("nats_login_unanswered", reason=str(error) or type(error).__name__)

    async def judge(self, request: LoginRequest) -> bytes:
        """Return the signed answer to a server's request.

        Raises `DependencyUnavailable` when it can't be told.
        """
        sandbox_id, guest = read_user(request.user) or (None, "")
        found = None if sandbox_id is None else await self._login_of(UUID(sandbox_id), guest)
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
            name=connection_name(sandbox_id, found.generation, guest),
            permissions=worker_permissions(sandbox_id),
            at=now,
            until=found.at_most_until,
        )

    def _refuse(self, request: LoginRequest, sandbox_id: str | None, why: str, now: datetime) -> bytes:
        self.refused += 1
        # Nothing else that the client sent: a password may stand where its name should.
        _log.info("nats_worker_refused", sandbox_id=sandbox_id, host=request.host, reason=why)
        return refusing(self._keys.issuer, request, why=why, at=now)


def connection_name(sandbox_id: UUID | str, generation: int, guest: str = "") -> str:
    """What the server shows of a worker's connection: whose it is, and of which login."""
    return f"{sandbox_id}:{generation}:{guest}" if guest else f"{sandbox_id}:{generation}"
