"""What the bot's owner says to it in a direct message, and nobody else's business.

The same reading decides twice: the bot owner's messages that are commands are carried out here, and are not
published. A message is a command when it comes from an owner of the bot, has no guild, and its words fit the
table below; every other direct message is production's. So "list" is a command, and "list of guests" is none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

OWNER_COMMANDS: Mapping[str, int] = MappingProxyType(
    {
        "help": 0,
        "list": 0,
        "status": 1,
        "destroy": 2,
        # A duration may have two words: `extend welcome-flow 2 days`.
        "extend": 3,
        "audit": 1,
        "routes": 0,
        "cleanup": 0,
        # `orphans fix unknown`.
        "orphans": 2,
        "sync": 0,
        "health": 0,
    }
)
"""Each command's word, and the most words that may follow it."""

_MOST_WORDS = 1 + max(OWNER_COMMANDS.values())


@dataclass(frozen=True, slots=True)
class OwnerCommand:
    """A command as it was given; `arguments` may be fewer than the command needs."""

    word: str
    arguments: tuple[str, ...] = ()


def read_owner_command(author_id: str, content: str, owner_ids: Collection[str]) -> OwnerCommand | None:
    """The command in a direct message, or None when it is none; the word may be in capitals."""
    if author_id not in owner_ids:
        return None
    # One more than any command takes is enough to see that there are too many.
    words = content.split(maxsplit=_MOST_WORDS)
    if not words:
        return None
    word = words[0].lower()
    most = OWNER_COMMANDS.get(word)
    if most is None or len(words) - 1 > most:
        return None
    return OwnerCommand(word, tuple(words[1:]))
