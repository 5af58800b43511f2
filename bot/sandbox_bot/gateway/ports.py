"""What the gateway needs of the client whose connections it makes."""

from __future__ import annotations

from typing import Protocol

import yarl
from discord.http import HTTPClient

from sandbox_core.bootstrap import Core
from sandbox_core.event_router import GatewayIntake
from sandbox_core.metrics import Metrics
from sandbox_core.sharding.sessions import SessionBook
from sandbox_core.sharding.tuning import GatewayTuning

from .compression import CompressionChoice


class GatewayClient(Protocol):
    """A client of discord.py whose gateway frames go through an intake."""

    http: HTTPClient

    @property
    def sandbox_core(self) -> Core: ...

    @property
    def intake(self) -> GatewayIntake: ...

    @property
    def sessions(self) -> SessionBook: ...

    @property
    def gateway_metrics(self) -> Metrics: ...

    @property
    def gateway_url(self) -> yarl.URL:
        """Where a new session begins."""

    @property
    def tuning(self) -> GatewayTuning: ...

    @property
    def compression(self) -> CompressionChoice: ...
