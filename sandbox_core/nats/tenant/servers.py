"""What every server of the sandboxes' NATS has: connections, which are ended here, and streams.

Asked as the user `sys`. https://docs.nats.io/running-a-nats-service/configuration/sys_accounts
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import nats.errors
from nats.errors import NoRespondersError

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.subjects import slot_account, slot_of_account

from ..connection import NatsConnection
from ..errors import DEPENDENCY, translating
from ..stream_faults import OWNER

NO_ACCOUNTS = "it has no accounts for sandboxes"
"""The problem with a server that has another configuration than the sandboxes' must have."""
_PING = "$SYS.REQ.SERVER.PING"
_ANSWERS_WITHIN = 0.7
"""The limit in seconds for all servers' answers: connections are to be cut within a second."""
_EVERY = 1_000_000
_LOOKS, _PAUSE = 5, 0.02


@dataclass(frozen=True, slots=True)
class WorkerConnection:
    """A client in a slot's account."""

    server_id: str
    number: int
    slot: int
    sandbox_id: str
    """Whose login it has; "" when that can't be told."""
    generation: int
    """Which login it has."""
    guest: str = ""
    """Whose of the sandbox's guests; "" for the sandbox's own."""

    @property
    def login(self) -> WorkerLogin:
        """Its login."""
        return WorkerLogin(self.sandbox_id, self.generation, self.guest)


class WorkerLogin(NamedTuple):
    """A login of a sandbox, or of one of its guests."""

    sandbox_id: str
    generation: int
    guest: str


class TenantServers:
    """All servers of the sandboxes' NATS, over a connection as `sys` to one of them."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._slots: frozenset[int] = frozenset()
        self._version = ""
        connection.on_reconnect.append(self.forget)

    def forget(self) -> None:
        """Ask again which slots there are: the server may have another configuration now."""
        self._slots = frozenset()

    async def slots(self) -> frozenset[int]:
        """Return the slots that every server has. Asked once in each connection."""
        if not self._slots:
            self._slots = frozenset(await self.streams())
        return self._slots

    async def version(self) -> str:
        """Return the oldest server's. Asked once in each connection."""
        await self.slots()
        return self._version

    @property
    def where(self) -> str:
        """Host and port of the server that is asked."""
        return self._connection.server

    async def connections(self, slot: int | None = None) -> list[WorkerConnection]:
        """Return the clients in the slot's account, or in all of them.

        Raises `DependencyUnavailable` unless every server of the cluster has answered.
        """
        return [each async for each in self._connections(slot)]

    async def _connections(self, slot: int | None) -> AsyncIterator[WorkerConnection]:
        asked: dict[str, Any] = {"auth": True, "limit": _EVERY}
        if slot is not None:
            asked["acc"] = slot_account(slot)
        async for answer in self._answers("CONNZ", asked):
            for each in (answer.get("data") or {}).get("connections") or ():
                if (found := _worker(answer["server"]["id"], each)) is not None:
                    yield found

    async def cut(self, slot: int, doomed: Callable[[WorkerConnection], bool] = lambda _: True) -> None:
        """End the clients in the slot's account that are `doomed`.

        Raises `DependencyUnavailable` when some may be left; those on servers that answer are ended anyhow.
        """
        for look in range(_LOOKS):
            found = False
            async for each in self._connections(slot):
                if doomed(each):
                    found = True
                    await self._kick(each)
            if not found:
                return
            # The server ends them right after it has said so.
            await asyncio.sleep(_PAUSE * look)
        raise DependencyUnavailable(DEPENDENCY, "a worker connects again and again", self.where)

    async def _kick(self, connection: WorkerConnection) -> None:
        subject = f"$SYS.REQ.SERVER.{connection.server_id}.KICK"
        with translating(), suppress(NoRespondersError):
            # Without anybody there the server has ended, and the connection with it.
            await self._connection.client.request(
                subject, json.dumps({"cid": connection.number}).encode(), timeout=_ANSWERS_WITHIN
            )

    async def streams(self) -> dict[int, dict[str, str]]:
        """Return the slots that every server has, with the names of each one's streams and whose they are."""
        slots: set[int] | None = None
        versions: list[str] = []
        found: dict[int, dict[str, str]] = defaultdict(dict)
        async for answer in self._answers("JSZ", {"accounts": True, "streams": True, "config": True}):
            here: set[int] = set()
            versions.append(str(answer["server"].get("ver", "")))
            for account in (answer.get("data") or {}).get("account_details") or ():
                slot = slot_of_account(str(account.get("name")))
                if slot is None:
                    continue
                here.add(slot)
                for stream in account.get("stream_detail") or ():
                    metadata = (stream.get("config") or {}).get("metadata") or {}
                    found[slot][str(stream.get("name"))] = str(metadata.get(OWNER, ""))
            slots = here if slots is None else slots & here
        self._version = min(versions, key=numbers_of)
        return {slot: found[slot] for slot in sorted(slots or ())}

    async def _answers(self, what: str, asked: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield each server's answer as it comes; in the end raise `DependencyUnavailable` if one is missing.

        A server counts while another one has a route to it: one that has crashed is not waited for.
        """
        known: set[str] = set()
        answered: set[str] = set()
        client = self._connection.client
        with translating():
            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox)
            try:
                await client.publish(f"{_PING}.ROUTEZ", reply=inbox)
                await client.publish(f"{_PING}.{what}", json.dumps(asked).encode(), reply=inbox)
                end = time.monotonic() + _ANSWERS_WITHIN
                while not known or known - answered:
                    try:
                        message = await subscription.next_msg(timeout=max(0.001, end - time.monotonic()))
                    except nats.errors.TimeoutError:
                        problem = f"{len(answered)} of {max(1, len(known))} servers of the sandboxes answered"
                        raise DependencyUnavailable(DEPENDENCY, problem, self.where) from None
                    if not message.data:
                        # A status: nobody listens, where the system account would.
                        raise DependencyUnavailable(DEPENDENCY, NO_ACCOUNTS, self.where)
                    answer = json.loads(message.data)
                    data = answer.get("data") or {}
                    if "num_routes" in data:
                        known |= {
                            answer["server"]["id"],
                            *(each["remote_id"] for each in data.get("routes") or ()),
                        }
                    else:
                        answered.add(answer["server"]["id"])
                        yield answer
            finally:
                if self._connection.connected:
                    await subscription.unsubscribe()


def numbers_of(version: str) -> tuple[int, ...]:
    """Return a version such as `2.12.6` as numbers; none for an unknown one."""
    return tuple(int(digits) for digits in re.findall(r"\d+", version)[:3])


def _worker(server_id: str, about: Mapping[str, Any]) -> WorkerConnection | None:
    slot = slot_of_account(str(about.get("account")))
    if slot is None:
        return None
    # The name in its token, see `connection_name`.
    sandbox_id, generation, guest, *_ = f"{about.get('authorized_user') or ''}::".split(":")
    number = int(generation) if generation.isdigit() else 0
    return WorkerConnection(server_id, int(about["cid"]), slot, sandbox_id, number, guest)
