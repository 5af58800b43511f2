"""Parses the servers' addresses. Every client gets the parsed values, never the text.

Clients read the same text differently: where a password ends, what `%40` means, whether `?host=` counts. So
this package parses the text strictly, and refuses an ambiguous text with a sentence.
"""

from ._text import AddressError, Endpoint
from .discord import discord_where
from .nats import NatsAddress
from .postgres import PostgresAddress
from .redis import RedisAddress

__all__ = ["AddressError", "Endpoint", "NatsAddress", "PostgresAddress", "RedisAddress", "discord_where"]
