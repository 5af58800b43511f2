"""PostgreSQL: the pool, one module for each table, and the translation of the driver's errors."""

from .errors import translating
from .pool import Connection, Pool, connected, create_pool, transaction

__all__ = ["Connection", "Pool", "connected", "create_pool", "transaction", "translating"]
