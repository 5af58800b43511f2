from __future__ import annotations

from typing import Any

import pytest

from sandbox_core.audit_text import details_line


@pytest.mark.parametrize(
    ("details", "line"),
    [
        ({}, ""),
        ({"from": "running", "to": "expired"}, "running -> expired"),
        ({"reason": "expired", "from": "expired"}, "from=expired, reason=expired"),
        (
            {
                "capped": True,
                "from": "2026-11-22T15:32:05.117365+00:00",
                "to": "2026-11-28T15:32:05Z",
            },
            "2026-11-22 15:32:05 -> 2026-11-28 15:32:05, capped=true",
        ),
        (
            {"steps": {"NATS": "2026-11-22T15:32:05.117365+00:00"}, "failed_attempts": 0},
            'failed_attempts=0, steps={"NATS": "2026-11-22 15:32:05"}',
        ),
        (
            {"guild_ids": ["1", "2"], "name": "ünter 2026-11-22"},
            'guild_ids=["1", "2"], name=ünter 2026-11-22',
        ),
    ],
)
def test_details_read_as_a_line(details: dict[str, Any], line: str) -> None:
    assert details_line(details) == line
