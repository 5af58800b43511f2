"""The ops endpoint over HTTP, and the check whether a process can do its work."""

from .readiness import GatewayState, Readiness, Report
from .server import OpsAddressError, OpsServer, ops_server

__all__ = ["GatewayState", "OpsAddressError", "OpsServer", "Readiness", "Report", "ops_server"]
