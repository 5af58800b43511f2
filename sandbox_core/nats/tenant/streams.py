"""The stream `SANDBOX` in a slot's account: made, looked at, removed, and written by the bot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
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
from sandbox_core.subjects import sandbox_filter, sandbox_stream_subjects, slot_api, slot_subject

from ..connection import NatsConnection
from ..errors import DEPENDENCY, translating
from ..stream_faults import MADE_BY, MARK
from ..streams import DUPLICATE_WINDOW
from .permissions import STREAM

OWNER = "sandbox"
"""The key of the sandbox's id in a stream's metadata."""
_TIMEOUT = 3.0
_MAX_AGE = timedelta(minutes=5)
_MAX_MESSAGES = 500_000
# With a stream as large as its account the server refuses events, instead of discarding the oldest.
_SHARE = (3, 4)
_NAME_IN_USE = 10058


class SlotStreams:
    """The streams in all slots, over a connection as `bot`."""

    def __init__(self, connection: NatsConnection, *, replicas: int = 1) -> None:
        self._connection = connection
        self._replicas = replicas

    def jetstream(self, slot: int) -> JetStreamContext:
        """JetStream in the slot's account, for requests about streams, messages and consumers."""
        return self._connection.client.jetstream(prefix=slot_api(slot), timeout=_TIMEOUT)

    async def publish(
        self, slot: int, subject: str, payload: bytes, headers: Mapping[str, str] | None = None
    ) -> PubAck:
        """Publish what the worker sees under `subject`, such as `sandbox.{id}.events.READY`."""
        with translating():
            return await self.jetstream(slot).publish(
                slot_subject(slot, subject), payload, stream=STREAM, headers=dict(headers or {})
            )

    async def ensure(self, slot: int, sandbox_id: UUID) -> None:
        """Make the sandbox's stream if it is missing; whatever else is in the account is removed."""
        js = self.jetstream(slot)
        with translating():
            try:
                present = (await js.stream_info(STREAM)).config
            except NotFoundError:
                await self.remove(slot)
            else:
                if (present.metadata or {}).get(OWNER) == str(sandbox_id):
                    return
                await self.remove(slot)
            try:
                await js.add_stream(await self._config(js, sandbox_id))
            except BadRequestError as error:
                if error.err_code != _NAME_IN_USE:
                    raise
                raise DependencyUnavailable(
                    DEPENDENCY, f"another process has just made the stream {STREAM}"
                ) from error

    async def _config(self, js: JetStreamContext, sandbox_id: UUID) -> StreamConfig:
        account: AccountInfo = await js.account_info()
        return StreamConfig(
            name=STREAM,
            subjects=sandbox_stream_subjects(sandbox_id),
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.MEMORY,
            max_age=_MAX_AGE.total_seconds(),
            max_msgs=_MAX_MESSAGES,
            max_bytes=account.limits.max_memory * _SHARE[0] // _SHARE[1],
            duplicate_window=DUPLICATE_WINDOW.total_seconds(),
            discard=DiscardPolicy.OLD,
            num_replicas=self._replicas,
            allow_direct=True,
            # For dead letters, which do not age.
            allow_msg_ttl=True,
            metadata={MADE_BY: MARK, OWNER: str(sandbox_id)},
        )

    async def info(self, slot: int, sandbox_id: UUID) -> StreamInfo | None:
        """Return the sandbox's stream with its subjects; None when it is missing."""
        with translating():
            try:
                return await self.jetstream(slot).stream_info(
                    STREAM, subjects_filter=sandbox_filter(sandbox_id)
                )
            except NotFoundError:
                return None

    async def account(self, slot: int) -> AccountInfo:
        """Return what the slot's account uses, and its limits."""
        with translating():
            return await self.jetstream(slot).account_info()

    async def remove(self, slot: int) -> None:
        """Remove every stream in the slot's account: nobody but the bot can make one."""
        js = self.jetstream(slot)
        with translating():
            for each in await js.streams_info():
                try:
                    await js.delete_stream(str(each.config.name))
                except NotFoundError:
                    continue
