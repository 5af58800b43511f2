"""The stage of the endpoint's tests, and production's token."""

from __future__ import annotations

import pytest

from sandbox_core.models import Actor
from sandbox_core.production import ProductionToken
from tests.gateway_endpoint.conftest import closed, discord_untouched, process, sim, stage
from tests.gateway_endpoint.stage import Stage

__all__ = ["closed", "discord_untouched", "process", "sim", "stage"]

OPERATOR = Actor("test", is_bot_owner=True)


@pytest.fixture
def tokens(stage: Stage) -> ProductionToken:
    """Makes production's token."""
    endpoint = stage.settings.client_endpoint
    assert endpoint is not None
    return ProductionToken(stage.core.pool, endpoint)


@pytest.fixture
async def token(tokens: ProductionToken) -> str:
    """Production's token."""
    return (await tokens.rotate(OPERATOR)).variables["DISCORD_TOKEN"]
