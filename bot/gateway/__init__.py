"""The bot's own gateway socket: every frame is routed before discord.py sees the few it needs."""

from .sessions import SessionBook
from .socket import RoutedWebSocket, RoutesFrames, routed_sockets

__all__ = ["RoutedWebSocket", "RoutesFrames", "SessionBook", "routed_sockets"]
