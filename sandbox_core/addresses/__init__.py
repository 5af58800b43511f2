"""The servers' addresses, each read once: every client gets its values from here, never the raw text.

Clients read the same text differently: where a password ends, what `%40` means, whether `?host=` counts. So
the text is parsed here, strictly, and what could be meant in two ways is refused with a sentence.
"""

from ._text import AddressError, Endpoint
from .discord import discord_where
from .nats import NatsAddress
from .postgres import PostgresAddress
from .redis import RedisAddress

__all__ = ["AddressError", "Endpoint", "NatsAddress", "PostgresAddress", "RedisAddress", "discord_where"]
