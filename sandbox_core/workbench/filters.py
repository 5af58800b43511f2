"""Which events somebody wants to see."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sandbox_core.errors import DoesNotFit, InvalidInput
from sandbox_core.subjects import is_guild_id

from .fixtures.catalogue import check_name
from .seen import SeenEvent


@dataclass(frozen=True, slots=True)
class Filter:
    """Takes an event that is in each collection which is not empty."""

    types: Collection[str] = ()
    guild_ids: Collection[str] = ()
    channel_ids: Collection[str] = ()
    user_ids: Collection[str] = ()
    since: datetime | None = None
    pattern: re.Pattern[str] | None = None
    """Searched in the frame's text, and in the same with letters in place of their numbers."""
    without_origin: str = ""
    """What `Sandbox-Origin` must not say."""

    def takes(self, event: SeenEvent) -> bool:
        """Return whether it is wanted; the cheap questions come first."""
        return (
            (not self.types or event.type in self.types)
            and (not self.without_origin or event.origin != self.without_origin)
            and (self.since is None or event.stored_at >= self.since)
            and (not self.guild_ids or event.guild_id in self.guild_ids)
            and (not self.channel_ids or event.channel_id in self.channel_ids)
            and (not self.user_ids or event.user.get("id") in self.user_ids)
            and (self.pattern is None or any(map(self.pattern.search, event.texts())))
        )


def checked_filter(
    *,
    types: Collection[str] = (),
    guild_ids: Collection[str] = (),
    channel_ids: Collection[str] = (),
    user_ids: Collection[str] = (),
    since: datetime | None = None,
    grep: str = "",
) -> Filter:
    """Return the filter for what a person has typed.

    Raises `DoesNotFit` for a type that Discord does not document and a pattern that is none, and
    `InvalidInput` for what is no id.
    """
    wanted = [each.strip().upper() for each in types]
    for each in wanted:
        check_name(each)
    for what, ids in (("server", guild_ids), ("channel", channel_ids), ("user", user_ids)):
        for each in ids:
            if not is_guild_id(each):
                raise InvalidInput(f"{what} id", each, "it is not 17 to 20 digits", "`613425648685547541`")
    pattern = None
    if grep:
        try:
            pattern = re.compile(grep)
        except re.error as error:
            raise DoesNotFit(
                "The pattern",
                f"it is no regular expression ({error})",
                r"A bracket as text is \(.",
            ) from None
    return Filter(
        frozenset(wanted), frozenset(guild_ids), frozenset(channel_ids), frozenset(user_ids), since, pattern
    )
