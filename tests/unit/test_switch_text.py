"""What people are told about processes that have not confirmed a change of routes."""

from __future__ import annotations

from sandbox_core.switch_text import unconfirmed_text


def test_nothing_is_said_about_nobody() -> None:
    assert unconfirmed_text(()) == ""


def test_every_process_is_named() -> None:
    assert unconfirmed_text(["a:1"]).startswith("a:1 has not confirmed this yet; until it has caught up, it ")
    assert unconfirmed_text(["a:1", "b:2", "c:3"]).startswith("a:1, b:2 and c:3 have not confirmed this yet;")
