"""Permission bits."""

from __future__ import annotations

ADMINISTRATOR = 1 << 3
MANAGE_GUILD = 1 << 5
ALL = (1 << 53) - 1

EVERYONE = (
    (1 << 0)  # create invites
    | (1 << 6)  # add reactions
    | (1 << 10)  # view channels
    | (1 << 11)  # send messages
    | (1 << 14)  # embed links
    | (1 << 15)  # attach files
    | (1 << 16)  # read message history
    | (1 << 18)  # external emojis
    | (1 << 31)  # use application commands
    | (1 << 38)  # send messages in threads
)
"""The permissions of @everyone in a new guild."""
