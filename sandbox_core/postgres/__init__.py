"""PostgreSQL: the pool, one module per table, and the one translation of the driver's errors."""

from .errors import translating
from .pool import Connection, Pool, connected, create_pool, transaction

__all__ = ["Connection", "Pool", "connected", "create_pool", "transaction", "translating"]
