"""Where a server is, told without a password."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from sandbox_bot.doctor.places import Place, place


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://bot:se,cr@t@db:5433/sandbox", Place("db:5433", "bot", "sandbox")),
        ("postgresql://bot:secret@db/sandbox", Place("db:5432", "bot", "sandbox")),
        ("postgres://bot:secret@one:5433,two/sandbox", Place("one:5433, two:5432", "bot", "sandbox")),
        ("rediss://:secret@cache/3", Place("cache:6379", "", "3")),
        ("redis://us%40er:secret@[::1]:6380/0", Place("[::1]:6380", "us@er", "0")),
        ("redis://[::1]/0", Place("[::1]:6379", "", "0")),
    ],
)
def test_one_server(address: str, told: Place) -> None:
    assert place(SecretStr(address)) == told


def test_several_servers() -> None:
    told = place(SecretStr("nats://bot:secret@one:4222, tls://bot:secret@two"), several=True)
    assert (told.where, told.user) == ("one:4222, two:4222", "bot")
