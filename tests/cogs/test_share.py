"""`/sandbox share` and `/sandbox unshare`: who sees what, and what they may do."""

from __future__ import annotations

from sandbox_core.models import ShareAccess

from .conftest import Scene, code_of, embed_of, text_of


async def test_a_colleague_looks_and_does_no_more(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    answer = await scene.alice.slash(scene.channel, "sandbox share", name="mine", user=scene.bob)
    text = text_of(embed_of(answer))
    assert f"<@{scene.bob.id}> may see it" in text
    assert f"<@{scene.bob.id}> (see)" in text
    again = await scene.alice.slash(scene.channel, "sandbox share", name="mine", user=scene.bob, access="see")
    assert "already shared" in text_of(embed_of(again))

    listed = await scene.bob.slash(scene.channel, "sandbox list")
    assert "shared with you (see)" in text_of(embed_of(listed))
    filtered = await scene.bob.slash(scene.channel, "sandbox list", owner=scene.bob)
    assert f"<@{scene.alice.id}>" in text_of(embed_of(filtered))
    assert "shared with 1" in text_of(embed_of(await scene.alice.slash(scene.channel, "sandbox list")))
    # The only one that is his to look at.
    status = text_of(embed_of(await scene.bob.slash(scene.channel, "sandbox status")))
    assert f"Shared with: <@{scene.bob.id}> (see)" in status

    for command, options in (
        ("connect", {}),
        ("destroy", {}),
        ("extend", {"duration": "1h"}),
        ("rotate", {}),
        ("level", {"level": "full"}),
        ("register-guild", {}),
        ("share", {"user": scene.bot_owner}),
        ("unshare", {"user": scene.bob}),
    ):
        refused = await scene.bob.slash(scene.channel, f"sandbox {command}", name="mine", **options)
        assert code_of(refused) == "SANDBOX_010", command

    gone = await scene.alice.slash(scene.channel, "sandbox unshare", name="mine", user=scene.bob)
    assert "has no access any more" in text_of(embed_of(gone))
    assert (await scene.core.manager.get("mine")).shares == ()
    assert "shared" not in text_of(embed_of(await scene.bob.slash(scene.channel, "sandbox list")))


async def test_whom_it_can_not_be_shared_with(scene: Scene) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    robot = scene.alice.guild.add_member(scene.env.create_user("robot", bot=True))
    before = await scene.stored()
    for user in (robot, scene.alice):
        refused = await scene.alice.slash(scene.channel, "sandbox share", name="mine", user=user)
        assert code_of(refused) == "SANDBOX_007"
    never = await scene.alice.slash(scene.channel, "sandbox unshare", name="mine", user=scene.bob)
    assert code_of(never) == "SANDBOX_007"
    # By convention, as everything in these tests is.
    use = await scene.alice.slash(
        scene.channel, "sandbox share", name="mine", user=scene.bob, access=ShareAccess.USE.value
    )
    assert code_of(use) == "SANDBOX_013"
    assert await scene.stored() == before


async def test_names_are_suggested_to_a_colleague_before_others(scene: Scene) -> None:
    for name in ("aaa", "zzz"):
        await scene.alice.slash(scene.channel, "sandbox create", name=name)
    await scene.alice.slash(scene.channel, "sandbox share", name="zzz", user=scene.bob)
    found = await scene.bob.autocomplete(scene.channel, "sandbox connect", "name", "")
    assert [choice["value"] for choice in found] == ["zzz", "aaa"]
