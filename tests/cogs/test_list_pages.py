"""`/sandbox list` in pages: every press asks anew, with the filters of the first question."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import simcord

from .conftest import Scene, embed_of, labels_of, text_of


async def rows(scene: Scene, count: int, *, owner: int, status: str = "destroyed") -> None:
    """Sandboxes that only a list sees."""
    for number in range(count):
        sandbox_id = uuid4()
        await scene.core.pool.execute(
            """
            INSERT INTO sandboxes (id, name, owner, status, schema_name, created_at, expires_at, destroyed_at)
            VALUES ($1, $2, $3, $4::sandbox_status, $5, now() - make_interval(mins => $6), now() + '1 h',
                    CASE WHEN $4 = 'destroyed' THEN now() END)
            """,
            sandbox_id,
            f"{status}-{owner % 1000}-{number:02}",
            str(owner),
            status,
            f"sandbox_{sandbox_id.hex[:8]}",
            number,
        )


def page_of(message: simcord.ResponseMessage) -> str | None:
    return message.embeds[0].footer.text


async def shown(scene: Scene, **options: Any) -> simcord.ResponseMessage:
    result = await scene.alice.slash(scene.channel, "sandbox list", **options)
    embed_of(result)
    assert result.response is not None
    return result.response


async def test_a_short_list_has_no_buttons(scene: Scene) -> None:
    await rows(scene, 10, owner=scene.alice.id)
    message = await shown(scene, all=True)
    assert page_of(message) is None
    assert labels_of(message) == []


async def test_pages_are_turned_in_place_and_end_at_both_ends(scene: Scene) -> None:
    await rows(scene, 23, owner=scene.alice.id)
    message = await shown(scene, all=True)
    names: list[str] = []
    for page, buttons in ((1, ["Next"]), (2, ["Previous", "Next"]), (3, ["Previous"])):
        assert page_of(message) == f"Page {page} of 3"
        assert labels_of(message) == buttons
        assert message.embeds[0].title == "23 sandboxes"
        names += [line.split("**")[1] for line in text_of(message.embeds[0]).splitlines() if "**" in line]
        if "Next" in buttons:
            turned = await scene.alice.click(message, label="Next")
            assert turned.followups == []
    assert len(set(names)) == 23
    await scene.alice.click(message, label="Previous")
    assert page_of(message) == "Page 2 of 3"


async def test_the_filters_stay_while_pages_are_turned(scene: Scene) -> None:
    await rows(scene, 12, owner=scene.alice.id)
    await rows(scene, 12, owner=scene.bob.id)
    await rows(scene, 2, owner=scene.alice.id, status="running")
    message = await shown(scene, owner=scene.alice, status="destroyed")
    assert page_of(message) == "Page 1 of 2"
    await scene.alice.click(message, label="Next")
    text = text_of(message.embeds[0])
    assert text.count("· destroyed ·") == 2
    assert f"<@{scene.bob.id}>" not in text


async def test_a_list_that_became_shorter_shows_its_last_page(scene: Scene, simcord_bot: Any) -> None:
    await rows(scene, 25, owner=scene.alice.id)
    message = await shown(scene, all=True)
    await scene.alice.click(message, label="Next")
    await scene.core.pool.execute("DELETE FROM sandboxes WHERE name LIKE '%-2_' OR name LIKE '%-1_'")
    await simcord_bot.reload_extension("sandbox_cogs.sandbox")
    await scene.alice.click(message, label="Next")
    assert page_of(message) is None
    assert message.embeds[0].title == "10 sandboxes"
    assert labels_of(message) == []
