"""A sandbox's parts in the stores: one small protocol, and one class for each store."""

from .base import Namespace, PartHealth, PartState
from .nats import NatsNamespace
from .postgres import SchemaProvisioner, SchemaStats
from .redis import RedisNamespace

__all__ = [
    "Namespace",
    "NatsNamespace",
    "PartHealth",
    "PartState",
    "RedisNamespace",
    "SchemaProvisioner",
    "SchemaStats",
]
