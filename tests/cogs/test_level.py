"""`/sandbox level`: who may change what a sandbox's bot may do at Discord."""

from __future__ import annotations

from sandbox_core.models import RestLevel

from .conftest import COOKS_GUILD, Scene, code_of, embed_of, text_of


async def test_its_owner_changes_it(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    for level in ("full", "read_only", "no_moderation"):
        answer = await scene.alice.slash(scene.channel, "sandbox level", name="mine", level=level)
        assert level in text_of(embed_of(answer))
        assert (await scene.core.manager.get("mine")).rest_level is RestLevel(level)


async def test_nobody_else_does(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    refused = await scene.bob.slash(scene.channel, "sandbox level", name="mine", level="read_only")
    assert code_of(refused) == "SANDBOX_010"
    assert (await scene.core.manager.get("mine")).rest_level is RestLevel.NO_MODERATION


async def test_more_takes_the_right_in_each_server(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine", guild=str(COOKS_GUILD))
    assert (await scene.core.manager.get("mine")).guild_ids == (str(COOKS_GUILD),)
    await scene.alice.slash(scene.channel, "sandbox level", name="mine", level="full")
    assert (await scene.core.manager.get("mine")).rest_level is RestLevel.FULL
