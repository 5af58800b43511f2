"""Every close code has an end that somebody thought of."""

from __future__ import annotations

import pytest

from discord_sim.gateway import FATAL_CLOSES, SESSION_ENDING_CLOSES
from sandbox_bot.gateway.endings import REFUSALS, ConnectionEndedError, GatewayRefusedError, closed

# From Discord's developer documentation, "Opcodes and Status Codes", and RFC 6455, 7.4.1.
CODES = {1000, 1001, 1006, 1011, 4000, 4001, 4002, 4003, 4005, 4007, 4008, 4009, *FATAL_CLOSES}


def test_each_code_that_ends_everything_says_what_to_do() -> None:
    assert REFUSALS.keys() == FATAL_CLOSES
    assert all(text.startswith("Discord ") and text.endswith(".") for text in REFUSALS.values())


@pytest.mark.parametrize("code", [None, *sorted(CODES)])
def test_each_code_is_a_refusal_or_an_end_after_which_it_goes_on(code: int | None) -> None:
    ended = closed(code)
    if code in FATAL_CLOSES:
        assert isinstance(ended, GatewayRefusedError)
        assert ended.code == code
    else:
        assert isinstance(ended, ConnectionEndedError)
        # Closing with 1000 or 1001 ends the session where the bot does it; Discord itself never does.
        assert ended.session_lost == (code in SESSION_ENDING_CLOSES - {1000, 1001})
