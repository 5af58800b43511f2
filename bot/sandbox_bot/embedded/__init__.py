"""PostgreSQL, Valkey and nats-server from wheels: no root, no container, nothing left running.

    async with embedded_servers(Path(".local")) as servers:
        await migrate(servers.database_url)

Each server runs under a guard process (`_guard`), which stops it when this process ends for any reason.
"""

from ._errors import DataDirectoryInUse, EmbeddedExtraMissing, EmbeddedServerError
from ._nats import NatsServer
from ._postgres import PostgresServer
from ._server import EmbeddedServer
from ._servers import EmbeddedServers, embedded_servers
from ._tenant_nats import TenantNatsServer, tenant_limits
from ._valkey import ValkeyServer

__all__ = [
    "DataDirectoryInUse",
    "EmbeddedExtraMissing",
    "EmbeddedServer",
    "EmbeddedServerError",
    "EmbeddedServers",
    "NatsServer",
    "PostgresServer",
    "TenantNatsServer",
    "ValkeyServer",
    "embedded_servers",
    "tenant_limits",
]
