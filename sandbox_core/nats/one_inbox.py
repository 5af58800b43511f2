"""One inbox for the answers to one or two publishers on a connection, one with even numbers, one with odd.

Their answers come mixed. An inbox for each would end every burst at the next answer for the other one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nats.aio.client import Client

from .ack_inbox import AckInbox, Answers, PubAckError
from .publication import Publication, PublisherEvents

STEP = 2
"""From one number of a publisher to its next."""


class Hears(Answers, Protocol):
    """A publisher."""

    events: PublisherEvents
    awaited: dict[int, Publication]
    """What it was given and is not acknowledged, by number."""

    def are_off(self, numbers: Sequence[int]) -> None:
        """These are not awaited any more, as far as they were."""


class OneInbox:
    """Hands each answer to the publisher whose number it has."""

    def __init__(self, client: Client) -> None:
        self._inbox = AckInbox(client, self)
        self._publishers: list[Hears] = []
        self._off_even: Callable[..., Publication | None] = _none
        self._off_odd: Callable[..., Publication | None] = _none
        self._opening = asyncio.Lock()
        self._is_open = False
        self._together = False
        """There are two, and both tell the same one."""

    def join(self, publisher: Hears) -> int:
        """Hear for this one, too; returns its first number."""
        number = len(self._publishers)
        self._publishers.append(publisher)
        if number:
            self._together = publisher.events is self._publishers[0].events
            self._off_odd = publisher.awaited.pop
        else:
            self._off_even = publisher.awaited.pop
        return number

    async def open(self) -> str:
        """Begin to hear, if nobody has; the connection must stand. Returns what stands before a number."""
        async with self._opening:
            if not self._is_open:
                await self._inbox.open()
                self._is_open = True
        return self._inbox.prefix

    async def close(self, publisher: Hears, *, connected: bool) -> None:
        """Hear no more for this one; without a connection the server is not told."""
        if self._is_open and publisher is self._publishers[0]:
            await self._inbox.close(connected=connected)

    def in_flight(self) -> list[Publication]:
        """What all of them have sent, or will."""
        return [each for publisher in self._publishers for each in publisher.awaited.values()]

    # Answers

    def stored(self, numbers: Sequence[int]) -> None:
        """JetStream has these publications."""
        if len(self._publishers) == 1:
            self._publishers[0].stored(numbers)
            return
        if not self._together:
            for parity, publisher in enumerate(self._publishers):
                publisher.stored([number for number in numbers if number % STEP == parity])
            return
        off, off_odd = self._off_even, self._off_odd
        publications = [
            found for number in numbers if (found := off(number, None) or off_odd(number, None)) is not None
        ]
        for publisher in self._publishers:
            publisher.are_off(numbers)
        if publications:
            self._publishers[0].events.acknowledged(publications)

    def duplicate(self, number: int, sequence: int) -> None:
        """JetStream has a message of this id, at this place in its stream."""
        self._publishers[number % STEP].duplicate(number, sequence)

    def not_stored(self, number: int, error: PubAckError) -> None:
        """JetStream refused it."""
        self._publishers[number % STEP].not_stored(number, error)

    def no_stream(self, number: int) -> None:
        """No stream listens on the subject."""
        self._publishers[number % STEP].no_stream(number)


def _none(*_: Any) -> None:
    return None
