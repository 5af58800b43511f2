"""Tries every NATS subject that the bot uses, without changing anything.

A server checks the permission for a subject before it reads the payload. So the payloads have no effect: a
request to create a stream has another name than its subject, which the server refuses; a purge is for a
sandbox that does not exist; an event has headers that no stream's state can match, so it is refused and not
stored. A subscriber without a stream would get this empty event of the type DOCTOR, but no worker is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from nats.aio.msg import Msg

from sandbox_core import subjects
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.streams import NO_SEQUENCE
from sandbox_core.subjects import StreamNames

_FLUSH_WITHIN = 3
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)
_NO_APPLICATION = 0
_TYPE = "DOCTOR"
_API = "$JS.API"


@dataclass(frozen=True, slots=True)
class Need:
    """One subject that the bot uses."""

    pattern: str
    """The pattern that the permission must allow."""
    subject: str
    """A subject that matches the pattern, for the trial."""
    payload: str = ""
    """A payload without effect."""
    headers: dict[str, str] | None = None
    makes: str = ""
    """The stream that needs it to be created or changed, which an operator may also do."""


def publications(names: StreamNames, only: str | None = None) -> list[Need]:
    """Return what the bot publishes, and what it requests from JetStream.

    With `only` what it does on the server of that side, production's stream or sandboxes' by their names.
    """
    asked = [*_asked(names, only), *(need for name, need in events(names).items() if only in {None, name})]
    if only == names.sandbox:
        return [*asked, _answers()]
    return [*asked, *_others(names), *_recordings(names), _answers(), *_told(names)]


def events(names: StreamNames) -> dict[str, Need]:
    """Return, for each side, an event that its stream would refuse."""
    return {
        names.events: _event(names.events, names.events_subjects, names.production_subject(_TYPE)),
        names.sandbox: event_of_sandbox(names, uuid4()),
    }


def event_of_sandbox(names: StreamNames, sandbox_id: UUID | str) -> Need:
    """Return an event that the sandbox's stream would refuse."""
    subject = subjects.sandbox_subject(sandbox_id, _TYPE)
    return _event(names.sandbox_stream(sandbox_id), "sandbox.>", subject)


def _others(names: StreamNames) -> Iterator[Need]:
    for subject in (names.unattributed_subject(_TYPE), names.dead_letter_subject(_TYPE)):
        yield _event(names.events, names.events_subjects, subject)


def _recordings(names: StreamNames) -> Iterator[Need]:
    stream, none = names.recordings, names.recording_subject(uuid4())
    nothing = json.dumps({"name": f"doctor-{uuid4().hex}"})
    for verb in ("CREATE", "UPDATE"):
        yield Need(f"{_API}.STREAM.{verb}.{stream}", f"{_API}.STREAM.{verb}.{stream}", nothing)
    yield Need(f"{_API}.STREAM.INFO.{stream}", f"{_API}.STREAM.INFO.{stream}")
    get, purge = f"{_API}.STREAM.MSG.GET.{stream}", f"{_API}.STREAM.PURGE.{stream}"
    yield Need(get, get, json.dumps({"seq": NO_SEQUENCE}))
    yield Need(purge, purge, json.dumps({"filter": none}))
    yield _event(stream, names.recordings_subjects, none)


def _event(stream: str, pattern: str, subject: str) -> Need:
    headers = {
        "Nats-Expected-Stream": stream,
        "Nats-Expected-Last-Sequence": str(NO_SEQUENCE),
        "Nats-Expected-Last-Msg-Id": f"doctor-{uuid4().hex}",
    }
    return Need(pattern, subject, headers=headers)


def subscriptions(names: StreamNames, only: str | None = None) -> list[Need]:
    """Return what the bot subscribes to; `only` as for `publications`."""
    if only == names.sandbox:
        return [_answers()]
    return [
        _answers(),
        Need(names.route_announcements_subject, names.route_announcements_subject),
        *_gateway(),
    ]


def _answers() -> Need:
    return Need("_INBOX.>", f"_INBOX.{uuid4().hex}.doctor")


def _asked(names: StreamNames, only: str | None) -> Iterator[Need]:
    nothing = f"doctor-{uuid4().hex}"
    yield Need(f"{_API}.INFO", f"{_API}.INFO")
    if only in {None, names.events}:
        # It names the stream that has taken the subjects.
        whose = f"{_API}.STREAM.NAMES"
        makes = names.events if only == names.events else ""
        yield Need(whose, whose, json.dumps({"subject": nothing}), makes=makes)
        yield from _asked_of(names.events, names.events, nothing, makes=names.events)
    if only == names.events:
        return
    # The last part of these names is a sandbox's id, which no permission can be for: it takes a whole name.
    stream = names.sandbox_stream(uuid4())
    if only is not None:
        yield Need(f"{_API}.STREAM.NAMES", f"{_API}.STREAM.NAMES", json.dumps({"subject": nothing}))
    yield from _asked_of("*", stream, nothing)
    for verb, payload in (("DELETE", {}), ("PURGE", {}), ("MSG.DELETE", {"seq": NO_SEQUENCE})):
        yield Need(f"{_API}.STREAM.{verb}.*", f"{_API}.STREAM.{verb}.{stream}", json.dumps(payload))


def _asked_of(pattern: str, stream: str, nothing: str, *, makes: str = "") -> Iterator[Need]:
    """What is asked of each stream of `pattern`; `stream` is one of them."""
    for verb in ("CREATE", "UPDATE"):
        subject = f"{_API}.STREAM.{verb}"
        yield Need(f"{subject}.{pattern}", f"{subject}.{stream}", json.dumps({"name": nothing}), makes=makes)
    yield Need(f"{_API}.STREAM.INFO.{pattern}", f"{_API}.STREAM.INFO.{stream}")
    create, wrong = f"{_API}.CONSUMER.CREATE", json.dumps({"stream_name": nothing, "config": {}})
    yield Need(f"{create}.{pattern}", f"{create}.{stream}", wrong)
    yield Need(f"{_API}.CONSUMER.LIST.{pattern}", f"{_API}.CONSUMER.LIST.{stream}")
    for verb in ("INFO", "DELETE", "MSG.NEXT"):
        subject = f"{_API}.CONSUMER.{verb}"
        yield Need(f"{subject}.{pattern}.*", f"{subject}.{stream}.{nothing}")
    get = f"{_API}.STREAM.MSG.GET"
    yield Need(f"{get}.{pattern}", f"{get}.{stream}", json.dumps({"seq": NO_SEQUENCE}))


def _told(names: StreamNames) -> Iterator[Need]:
    # Every process receives this: it says that no route has changed.
    yield Need(
        names.route_announcements_subject, names.route_announcements_subject, '{"as_of":0.0,"routes":{}}'
    )
    yield from _gateway()


def _gateway() -> tuple[Need, Need, Need]:
    # No process listens for an application that does not exist.
    holders = subjects.shard_holders_subject(_NO_APPLICATION)
    takeovers = subjects.shard_takeovers_subject(_NO_APPLICATION)
    no_process = uuid4()
    process = subjects.gateway_process_subject(_NO_APPLICATION, no_process)
    number = f".{_NO_APPLICATION}."
    return (
        Need(holders.replace(number, ".*."), holders),
        Need(takeovers.replace(number, ".*."), takeovers),
        Need(process.replace(number, ".*.").replace(str(no_process), "*"), process),
    )


@dataclass(frozen=True, slots=True)
class Denied:
    """The subjects that the user may not use, as patterns."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    making: Mapping[str, tuple[str, ...]]
    """By stream: the subjects that only create or change it."""


async def denied(connection: NatsConnection, names: StreamNames, only: str | None = None) -> Denied:
    """Try every subject; `only` as for `publications`. Raises nats-py's errors."""
    violations = Violations(connection)
    client = connection.client
    told, heard = publications(names, only), subscriptions(names, only)
    with violations:
        hearing = [await client.subscribe(need.subject, cb=_ignore) for need in heard]
        inbox = client.new_inbox()
        hearing.append(await client.subscribe(inbox, cb=_ignore))
        for need in told:
            await client.publish(need.subject, need.payload.encode(), reply=inbox, headers=need.headers)
        # The server answers in order, so its objections come before the second answer. One flush is not
        # enough: nats-py writes a flush at once, but publications later in another task.
        await client.flush(_FLUSH_WITHIN)
        await client.flush(_FLUSH_WITHIN)
        for subscription in hearing:
            await subscription.unsubscribe()
    published, heard_not = violations.of("publish"), violations.of("subscription")
    making = {
        stream: _patterns([need for need in told if need.makes == stream], published)
        for stream in (names.events,)
    }
    return Denied(
        _patterns([need for need in told if not need.makes], published),
        _patterns(heard, heard_not),
        {stream: patterns for stream, patterns in making.items() if patterns},
    )


def _patterns(needs: Sequence[Need], subjects_denied: Iterable[str]) -> tuple[str, ...]:
    # nats-py gives the server's text in lower case.
    lowered = {subject.lower() for subject in subjects_denied}
    return tuple(dict.fromkeys(need.pattern for need in needs if need.subject.lower() in lowered))


class Violations:
    """Collects the server's permission errors while it is entered."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._found: list[tuple[str, str]] = []

    def __enter__(self) -> Violations:
        self._connection.on_error.append(self._on_error)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.on_error.remove(self._on_error)

    def of(self, kind: str) -> list[str]:
        """Return the subjects of one kind, `publish` or `subscription`."""
        return [subject for each, subject in self._found if each == kind]

    def _on_error(self, error: Exception) -> None:
        if found := _VIOLATION.search(str(error)):
            self._found.append((found[1].lower(), found[2]))


async def _ignore(_message: Msg) -> None:
    pass
