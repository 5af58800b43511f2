"""The address to resume at comes back from stores that others may write to, and the token is sent there."""

from __future__ import annotations

import pytest
import yarl

from sandbox_bot.gateway.belonging import is_of_gateway

DISCORD = "wss://gateway.discord.gg"


@pytest.mark.parametrize(
    ("url", "gateway"),
    [
        ("wss://gateway-us-east1-b.discord.gg", DISCORD),
        ("wss://gateway.discord.gg/?v=10&encoding=json", DISCORD),
        ("wss://GATEWAY.Discord.gg", DISCORD),
        ("ws://127.0.0.1:5000/resume", "ws://127.0.0.1:6000"),
        ("wss://gateway-us-east1-b.discord.gg", "ws://proxy.internal:7878"),
        ("wss://b.gateway.acme.example", "wss://a.gateway.acme.example"),
    ],
)
def test_the_gateways_own(url: str, gateway: str) -> None:
    assert is_of_gateway(yarl.URL(url), yarl.URL(gateway))


@pytest.mark.parametrize(
    ("url", "gateway"),
    [
        ("", DISCORD),
        ("wss://evil.example", DISCORD),
        ("wss://discord.gg.evil.example", DISCORD),
        ("wss://evildiscord.gg", DISCORD),
        ("ws://gateway.discord.gg", DISCORD),
        ("https://gateway.discord.gg", DISCORD),
        ("wss://user@gateway.discord.gg", DISCORD),
        ("wss://evil.example", "wss://gateway.example"),
        ("ws://127.0.0.2", "ws://127.0.0.1"),
        ("wss://10.0.0.2", "wss://10.0.0.1"),
    ],
)
def test_somebody_elses(url: str, gateway: str) -> None:
    assert not is_of_gateway(yarl.URL(url), yarl.URL(gateway))
