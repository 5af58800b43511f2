"""The streams in a slot's account, `SANDBOX` and `DEAD_LETTERS`: made, looked at, removed, and written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import (
    AccountInfo,
    DiscardPolicy,
    PubAck,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import BadRequestError, NotFoundError

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.subjects import SLOT_DEAD_LETTERS, SLOT_STREAM, slot_api, slot_streams, slot_subject

from ..connection import NatsConnection
from ..errors import DEPENDENCY, translating
from ..message_ids import MessageIds
from ..stream_faults import MADE_BY, MARK, OWNER
from ..streams import DUPLICATE_WINDOW, SANDBOX_MAX_AGE
from .configuration import DEFAULT_LIMITS, TenantLimits

_TIMEOUT = 3.0
# With streams as large as their account the server refuses messages, instead of discarding the oldest.
_SHARES, _OF = {SLOT_STREAM: 5, SLOT_DEAD_LETTERS: 1}, 8
_NAME_IN_USE = 10058


class SlotStreams:
    """The streams in all slots, over a connection as `bot`."""

    def __init__(self, connection: NatsConnection, limits: TenantLimits = DEFAULT_LIMITS) -> None:
        self._connection = connection
        self._replicas = limits.replicas
        self._messages = limits.messages

    def jetstream(self, slot: int) -> JetStreamContext:
        """JetStream in the slot's account, for requests about streams, messages and consumers."""
        return self._connection.client.jetstream(prefix=slot_api(slot), timeout=_TIMEOUT)

    def reads(self, slot: int) -> MessageIds:
        """Reads the streams in the slot's account back."""
        return MessageIds(self._connection.client, self.jetstream(slot), api=slot_api(slot))

    async def publish(
        self, slot: int, subject: str, payload: bytes, headers: Mapping[str, str] | None = None
    ) -> PubAck:
        """Publish what the worker sees under `subject`, such as `sandbox.{id}.events.READY`."""
        with translating():
            return await self.jetstream(slot).publish(
                slot_subject(slot, subject), payload, headers=dict(headers or {})
            )

    async def ensure(self, slot: int, sandbox_id: UUID) -> None:
        """Make the sandbox's streams that are missing; whatever else is in the account is removed."""
        js = self.jetstream(slot)
        wanted = slot_streams(sandbox_id)
        with translating():
            for each in await js.streams_info():
                name = str(each.config.name)
                if (each.config.metadata or {}).get(OWNER) == str(sandbox_id):
                    wanted.pop(name, None)
                else:
                    await _delete(js, name)
            if not wanted:
                return
            memory = (await js.account_info()).limits.max_memory // self._replicas
            await asyncio.gather(
                *(self._add(js, name, subject, sandbox_id, memory) for name, subject in wanted.items())
            )

    async def _add(
        self, js: JetStreamContext, name: str, subject: str, sandbox_id: UUID, memory: int
    ) -> None:
        config = StreamConfig(
            name=name,
            subjects=[subject],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.MEMORY,
            # Dead letters go with their sandbox, and do not age before.
            max_age=SANDBOX_MAX_AGE.total_seconds() if name == SLOT_STREAM else 0,
            max_msgs=self._messages,
            max_bytes=memory * _SHARES[name] // _OF,
            duplicate_window=DUPLICATE_WINDOW.total_seconds(),
            discard=DiscardPolicy.OLD,
            num_replicas=self._replicas,
            # Whoever reads by this could have an answer sent to any subject, with the headers of the message.
            allow_direct=name == SLOT_STREAM,
            # Workers write dead letters as they do where these are among the events.
            allow_msg_ttl=True,
            metadata={MADE_BY: MARK, OWNER: str(sandbox_id)},
        )
        try:
            await js.add_stream(config)
        except BadRequestError as error:
            if error.err_code != _NAME_IN_USE:
                raise
            raise DependencyUnavailable(
                DEPENDENCY, f"another process has just made the stream {name}"
            ) from error

    async def purge(self, slot: int) -> None:
        """Remove all messages in the slot's account; missing streams have none."""
        js = self.jetstream(slot)
        with translating():
            for name in (SLOT_STREAM, SLOT_DEAD_LETTERS):
                with suppress(NotFoundError):
                    await js.purge_stream(name)

    async def infos(self, slot: int) -> dict[str, StreamInfo]:
        """Return the streams in the slot's account by their names."""
        with translating():
            return {str(each.config.name): each for each in await self.jetstream(slot).streams_info()}

    async def account(self, slot: int) -> AccountInfo:
        """Return what the slot's account uses, and its limits."""
        with translating():
            return await self.jetstream(slot).account_info()

    async def remove(self, slot: int) -> None:
        """Remove every stream in the slot's account: nobody but the bot can make one."""
        js = self.jetstream(slot)
        with translating():
            for each in await js.streams_info():
                await _delete(js, str(each.config.name))


async def _delete(js: JetStreamContext, name: str) -> None:
    with suppress(NotFoundError):
        await js.delete_stream(name)
