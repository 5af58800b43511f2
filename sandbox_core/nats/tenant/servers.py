"""What every server of the sandboxes' NATS has: connections, which are ended here, and streams.

Asked as the user `sys`. https://docs.nats.io/running-a-nats-service/configuration/sys_accounts
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.subjects import slot_account, slot_of_account

from ..connection import NatsConnection
from ..errors import DEPENDENCY, translating

OWNER = "sandbox"
"""The key of the sandbox's id in a stream's metadata."""
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


class TenantServers:
    """All servers of the sandboxes' NATS, over a connection as `sys` to one of them."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    @property
    def where(self) -> str:
        """Host and port of the server that is asked."""
        return self._connection.server

    async def connections(self, slot: int | None = None) -> list[WorkerConnection]:
        """Return the clients in the slot's account, or in all of them.

        Raises `DependencyUnavailable` unless every server of the cluster has answered.
        """
        asked: dict[str, Any] = {"auth": True, "limit": _EVERY}
        if slot is not None:
            asked["acc"] = slot_account(slot)
        return [
            found
            for answer in await self._every("CONNZ", asked)
            for each in answer["data"].get("connections") or ()
            if (found := _worker(answer["server"]["id"], each)) is not None
        ]

    async def cut(self, slot: int, doomed: Callable[[WorkerConnection], bool] = lambda _: True) -> int:
        """End the clients in the slot's account that are `doomed`. Return how many there were.

        Raises `DependencyUnavailable` when some may be left.
        """
        ended: set[tuple[str, int]] = set()
        for look in range(_LOOKS):
            found = [each for each in await self.connections(slot) if doomed(each)]
            if not found:
                return len(ended)
            ended |= {(each.server_id, each.number) for each in found}
            await asyncio.gather(*(self._kick(each) for each in found))
            # The server ends them right after it has said so.
            await asyncio.sleep(_PAUSE * look)
        raise DependencyUnavailable(DEPENDENCY, "a worker connects again and again", self.where)

    async def _kick(self, connection: WorkerConnection) -> None:
        with translating():
            await self._connection.client.request(
                f"$SYS.REQ.SERVER.{connection.server_id}.KICK",
                json.dumps({"cid": connection.number}).encode(),
                timeout=_ANSWERS_WITHIN,
            )

    async def streams(self) -> dict[int, dict[str, str]]:
        """Return the slots that every server has, with the names of each one's streams and whose they are."""
        slots: set[int] | None = None
        found: dict[int, dict[str, str]] = defaultdict(dict)
        for answer in await self._every("JSZ", {"accounts": True, "streams": True, "config": True}):
            here: set[int] = set()
            for account in answer["data"].get("account_details") or ():
                slot = slot_of_account(str(account.get("name")))
                if slot is None:
                    continue
                here.add(slot)
                for stream in account.get("stream_detail") or ():
                    metadata = (stream.get("config") or {}).get("metadata") or {}
                    found[slot][str(stream.get("name"))] = str(metadata.get(OWNER, ""))
            slots = here if slots is None else slots & here
        return {slot: found[slot] for slot in sorted(slots or ())}

    async def _every(self, what: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the answers of all servers of the cluster."""
        answers: list[dict[str, Any]] = []
        expected = 1
        client = self._connection.client
        with translating():
            inbox = client.new_inbox()
            subscription = await client.subscribe(inbox)
            try:
                # How many servers there are, each says in its own state.
                await client.publish(f"{_PING}.STATSZ", reply=inbox)
                await client.publish(f"{_PING}.{what}", json.dumps(asked).encode(), reply=inbox)
                states = 0
                async with asyncio.timeout(_ANSWERS_WITHIN):
                    while states == 0 or len(answers) < expected:
                        message = await subscription.next_msg(timeout=None)
                        answer = json.loads(message.data)
                        if "statsz" in answer:
                            states += 1
                            expected = max(expected, int(answer["statsz"].get("active_servers") or 1))
                        elif "data" in answer:
                            answers.append(answer)
            except TimeoutError:
                raise DependencyUnavailable(
                    DEPENDENCY, f"{len(answers)} of {expected} servers of the sandboxes answered", self.where
                ) from None
            finally:
                if self._connection.connected:
                    await subscription.unsubscribe()
        return answers


def _worker(server_id: str, about: Mapping[str, Any]) -> WorkerConnection | None:
    slot = slot_of_account(str(about.get("account")))
    if slot is None:
        return None
    # The name in its token, see `connection_name`.
    sandbox_id, _, generation = str(about.get("authorized_user") or "").partition(":")
    return WorkerConnection(
        server_id, int(about["cid"]), slot, sandbox_id, int(generation) if generation.isdigit() else 0
    )
