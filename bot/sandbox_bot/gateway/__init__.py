"""The bot's own gateway: every frame is routed before discord.py sees the few it needs."""

from sandbox_core.sharding.sessions import SessionBook
from sandbox_core.sharding.tuning import GatewayTuning

from .compression import CompressionChoice
from .endings import GatewayRefusedError
from .gateway import Gateway
from .ports import GatewayClient
from .socket import RoutedWebSocket

__all__ = [
    "CompressionChoice",
    "Gateway",
    "GatewayClient",
    "GatewayRefusedError",
    "GatewayTuning",
    "RoutedWebSocket",
    "SessionBook",
]
