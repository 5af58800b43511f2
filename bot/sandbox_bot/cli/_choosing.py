"""The options that choose among events."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from sandbox_core.manager import utc_now
from sandbox_core.validation import parse_duration
from sandbox_core.workbench.filters import Filter, checked_filter

_LONGEST = timedelta(days=7)

Types = Annotated[
    list[str] | None, typer.Option("--type", "-t", metavar="TYPE", help="Only such, as MESSAGE_CREATE.")
]
Guilds = Annotated[
    list[str] | None, typer.Option("--guild", metavar="SERVER_ID", help="Only in this server.")
]
Channels = Annotated[
    list[str] | None, typer.Option("--channel", metavar="CHANNEL_ID", help="Only in this channel.")
]
Users = Annotated[list[str] | None, typer.Option("--user", metavar="USER_ID", help="Only this user's.")]
Since = Annotated[str, typer.Option("--since", metavar="DURATION", help="Only the last minutes, as 10m.")]
Grep = Annotated[
    str, typer.Option("--grep", metavar="PATTERN", help="Only where the frame has this regular expression.")
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What these options say."""

    types: Collection[str] | None
    guilds: Collection[str] | None
    channels: Collection[str] | None
    users: Collection[str] | None
    since: str
    grep: str

    @property
    def anything(self) -> bool:
        """Whether one of them was given."""
        return any((self.types, self.guilds, self.channels, self.users, self.since, self.grep))

    def filter(self) -> Filter:
        """Return the filter, from now on. Raises as `checked_filter`, and `InvalidInput`."""
        return checked_filter(
            types=self.types or (),
            guild_ids=self.guilds or (),
            channel_ids=self.channels or (),
            user_ids=self.users or (),
            since=_moment(self.since),
            grep=self.grep,
        )


def _moment(since: str) -> datetime | None:
    return utc_now() - parse_duration(since, maximum=_LONGEST, field="time") if since else None
