"""`/sandbox create template:` and `/sandbox reset`: the question, the answer, and the suggestions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import simcord

from sandbox_core.templates import Templates

from .conftest import COOKS_GUILD, Press, Scene, button_id, code_of, embed_of, text_of

pytestmark = pytest.mark.simcord(settle_timeout=60.0)

SEED = "INSERT INTO public.communities (guild_id, name) VALUES ('100000000000000009', 'seed');\n"


@pytest.fixture
def shop(scene: Scene, tmp_path: Path) -> Scene:
    """A bot with a directory of templates."""
    (tmp_path / "shop.sql").write_text(SEED)
    (tmp_path / "broken.sql").write_text(f"{SEED}\nSELEC 1;")
    manager: Any = scene.core.manager
    manager._tools = replace(manager._tools, templates=Templates(tmp_path))
    return scene


async def names(scene: Scene, sandbox: str) -> list[str]:
    schema = (await scene.core.manager.get(sandbox)).schema_name
    rows = await scene.core.pool.fetch(f"SELECT name FROM {schema}.communities ORDER BY 1")
    return [row["name"] for row in rows]


async def write(scene: Scene, sandbox: str) -> None:
    schema = (await scene.core.manager.get(sandbox)).schema_name
    await scene.core.pool.execute(
        f"INSERT INTO {schema}.communities (guild_id, name) VALUES ('100000000000000001', 'x')"
    )


async def ask(scene: Scene, **options: str) -> simcord.ResponseMessage:
    result = await scene.alice.slash(scene.channel, "sandbox reset", **options)
    embed_of(result)
    assert result.response is not None
    return result.response


async def test_a_template_and_a_reset(shop: Scene) -> None:
    made = await shop.alice.slash(
        shop.channel, "sandbox create", name="mine", template="shop", guild=str(COOKS_GUILD)
    )
    assert "`shop`" in text_of(embed_of(made))
    assert await names(shop, "mine") == ["seed"]
    await write(shop, "mine")
    before = await shop.core.manager.get("mine")

    question = await ask(shop)
    text = text_of(question.embeds[0])
    assert question.embeds[0].title == "Reset the sandbox mine?"
    assert f"`{before.schema_name}`" in text
    assert "with the template `shop`" in text
    assert f"**Cooks** (`{COOKS_GUILD}`)" in text
    assert button_id(question, "Reset it").startswith("sandbox:ask:reset:yes:")
    assert await names(shop, "mine") == ["seed", "x"]

    await shop.alice.click(question, label="Reset it")
    assert question.embeds[0].title == "Sandbox mine is empty again"
    assert question.components == []
    assert await names(shop, "mine") == ["seed"]
    after = await shop.core.manager.get("mine")
    assert after == before.evolve(last_activity_at=after.last_activity_at)
    status = await shop.alice.slash(shop.channel, "sandbox status", name="mine")
    assert "`shop`" in text_of(embed_of(status))


async def test_keeping_it_changes_nothing_and_a_double_click_acts_once(shop: Scene) -> None:
    await shop.alice.slash(shop.channel, "sandbox create", name="mine", template="shop")
    await write(shop, "mine")
    kept = await ask(shop, name="mine")
    await shop.alice.click(kept, label="Keep it as it is")
    assert kept.embeds[0].title == "Nothing was deleted"
    assert await names(shop, "mine") == ["seed", "x"]
    question = await ask(shop, name="mine")
    presses = [Press(shop, shop.alice, question, "Reset it") for _ in range(3)]
    for press in presses:
        press.send()
    await shop.env.settle()
    assert all(press.result.acknowledged for press in presses)
    events = "SELECT count(*) FROM sandbox_audit_log WHERE event_type = 'sandbox_reset'"
    assert await shop.core.pool.fetchval(events) == 1


async def test_who_may_not_gets_no_question(shop: Scene) -> None:
    await shop.alice.slash(shop.channel, "sandbox create", name="mine", template="shop")
    refused = await shop.bob.slash(shop.channel, "sandbox reset", name="mine")
    assert code_of(refused) == "SANDBOX_010"
    question = await ask(shop, name="mine")
    press = Press(shop, shop.bob, question, "Reset it")
    press.send()
    await shop.env.settle()
    assert press.result.acknowledged
    assert (await shop.core.manager.get("mine")).last_activity_at is None
    assert question.embeds[0].title == "Reset the sandbox mine?"


@pytest.mark.parametrize(
    ("template", "words"),
    [("../x", "that is no name of one"), ("other", "there is none"), ("broken", "line 3")],
)
async def test_a_template_that_does_not_fit(shop: Scene, template: str, words: str) -> None:
    before = await shop.stored()
    refused = await shop.alice.slash(shop.channel, "sandbox create", name="mine", template=template)
    assert code_of(refused) == "SANDBOX_015"
    assert words in text_of(embed_of(refused))
    after = await shop.stored()
    own = {"sandboxes": None, "audit": None}
    assert after | own == before | own
    assert await shop.core.manager.list() == []


async def test_templates_are_suggested(shop: Scene) -> None:
    async def offered(typed: str) -> list[str]:
        choices = await shop.alice.autocomplete(shop.channel, "sandbox create", "template", typed)
        return [choice["value"] for choice in choices]

    assert await offered("") == ["broken", "shop", "none"]
    assert await offered("SH") == ["shop"]
    assert await offered("x") == []


async def test_an_unfinished_reset_is_shown(shop: Scene) -> None:
    await shop.alice.slash(shop.channel, "sandbox create", name="mine")
    await shop.core.pool.execute("UPDATE sandboxes SET resetting = 'rest'")
    status = await shop.alice.slash(shop.channel, "sandbox status", name="mine")
    assert "A reset of it has begun and not ended" in text_of(embed_of(status))
