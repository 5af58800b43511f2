"""A sandbox's parts in the stores: one small protocol, and one class for each store."""

from .amounts import Amount, Pace
from .base import Namespace, PartHealth, PartState
from .credentials import Credentials
from .nats import NatsNamespace
from .postgres import SchemaProvisioner, SchemaStats
from .postgres_role_state import RoleLimits
from .postgres_roles import SandboxRoles
from .redis import RedisNamespace
from .redis_users import SandboxUsers
from .sides import Sides
from .tenant_schemas import TenantSchemas

__all__ = [
    "Amount",
    "Credentials",
    "Namespace",
    "NatsNamespace",
    "Pace",
    "PartHealth",
    "PartState",
    "RedisNamespace",
    "RoleLimits",
    "SandboxRoles",
    "SandboxUsers",
    "SchemaProvisioner",
    "SchemaStats",
    "Sides",
    "TenantSchemas",
]
