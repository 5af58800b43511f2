"""The bot's own gateway: every frame is routed before discord.py sees the few it needs."""

from .compression import CompressionChoice
from .endings import GatewayRefusedError
from .gateway import Gateway
from .sessions import SessionBook
from .socket import RoutedWebSocket, RoutesFrames
from .tuning import GatewayTuning

__all__ = [
    "CompressionChoice",
    "Gateway",
    "GatewayRefusedError",
    "GatewayTuning",
    "RoutedWebSocket",
    "RoutesFrames",
    "SessionBook",
]
