"""Puts an event that no delivery was enough for where it can be looked at and repeated."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.errors import APIError

from ..nats import dead_letters as letter
from ..nats.connection import NatsConnection
from ..nats.wire import MESSAGE_ID
from ..subjects import SLOT_DEAD_LETTERS

_log = structlog.get_logger("sandbox.context")

_STORED_WITHIN = 5.0
_LONGEST_VALUE = 256
# A letter does not age, other than the events beside it.
_TTL, _NEVER = "Nats-TTL", "never"
_ANOTHER_STREAM = 10060  # JetStream's JSStreamNotMatchErr
_TTL_IS_OFF = 10166  # JetStream's JSMessageTTLDisabledErr: the stream is another one's, or an older bot's


class DeadLetterBox:
    """Stores dead letters in the stream `stream` under the subject `subject`."""

    def __init__(self, connection: NatsConnection, stream: str, subject: str) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self.stored = 0

    async def keep(self, message: Msg, error: str | None) -> bool:
        """Store the event, once however often it is tried. False, after a log line, when that failed.

        `error` names the kind of the last failure; None when that is not known.
        """
        headers, payload = self._content(message, error)
        told = {name: headers.get(name) for name in (letter.SUBJECT, letter.ORIGINAL_ID, letter.DELIVERIES)}
        subject, message_id, deliveries = told.values()
        try:
            await self._publish(headers, payload)
        except (nats.errors.Error, OSError) as failure:
            _log.error(
                "dead_letter_not_stored",
                subject=subject,
                message_id=message_id,
                reason=type(failure).__name__,
            )
            return False
        self.stored += 1
        _log.error(
            "event_dead_lettered",
            reason=letter.UNHANDLED,
            subject=subject,
            message_id=message_id,
            deliveries=deliveries,
            error=error,
        )
        return True

    async def _publish(self, headers: dict[str, str], payload: bytes) -> None:
        try:
            await self._publish_to(self._stream, headers, payload)
        except APIError as refused:
            if refused.err_code != _ANOTHER_STREAM:
                raise
            # On a server of the sandboxes' own, letters are not among the events.
            await self._publish_to(SLOT_DEAD_LETTERS, headers, payload)

    async def _publish_to(self, stream: str, headers: dict[str, str], payload: bytes) -> None:
        js = self._connection.client.jetstream(timeout=_STORED_WITHIN)
        try:
            await js.publish(self._subject, payload, stream=stream, headers={**headers, _TTL: _NEVER})
        except APIError as refused:
            if refused.err_code != _TTL_IS_OFF:
                raise
            await js.publish(self._subject, payload, stream=stream, headers=headers)

    def _content(self, message: Msg, error: str | None) -> tuple[dict[str, str], bytes]:
        given, metadata, payload = message.headers or {}, message.metadata, message.data
        headers = {name: given[name][:_LONGEST_VALUE] for name in letter.KEPT_HEADERS if name in given}
        headers |= {
            # The consumer's own: each worker that can't handle the event has its letter.
            MESSAGE_ID: f"dead-letter:{metadata.consumer}:{metadata.sequence.stream}"
            f":{metadata.timestamp.timestamp():.6f}",
            letter.SUBJECT: message.subject,
            # This one was not handed on when it is not known how the last one ended.
            letter.DELIVERIES: str(metadata.num_delivered - (error is None)),
            letter.CONSUMER: metadata.consumer,
        }
        if MESSAGE_ID in given:
            headers[letter.ORIGINAL_ID] = given[MESSAGE_ID][:_LONGEST_VALUE]
        if error is not None:
            headers[letter.ERROR] = error[:_LONGEST_VALUE]
        if not self._fits(headers, payload) and "Content-Encoding" not in headers:
            payload, headers["Content-Encoding"] = gzip.compress(payload), "gzip"
        if not self._fits(headers, payload):
            headers[letter.BYTES] = str(len(message.data))
            headers.pop("Content-Encoding", None)
            payload = b""
        return headers, payload

    def _fits(self, headers: Mapping[str, str], payload: bytes) -> bool:
        """The server ends the connection over a message that is too large, and counts the headers, too."""
        room = sum(len(name) + 4 * len(value) + 4 for name, value in headers.items())
        return len(payload) + room + _LONGEST_VALUE <= self._connection.client.max_payload
