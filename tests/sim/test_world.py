"""Changes of the world are dispatched as Discord would."""

from __future__ import annotations

from typing import Any

from discord_sim import DiscordSim, SimGuild, SimUser
from tests.sim.conftest import ConnectRaw


async def test_guild_changes_are_dispatched(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, connect: ConnectRaw
) -> None:
    client = await connect(identify=True)
    await client.until("GUILD_CREATE")
    role = guild.add_role("mods", permissions=1 << 5)
    channel = guild.add_channel("ops")
    bob = sim.add_user("bob")
    guild.add_member(bob, roles=[role])
    guild.add_member(bob, permissions=8)
    guild.edit_role(role, 0)
    guild.rename("Dev 2")
    guild.remove_channel(channel)
    guild.remove_member(bob)
    guild.set_unavailable()
    guild.remove_bot()
    seen = [m["t"] for m in await client.until("GUILD_DELETE")]
    assert seen == [
        "GUILD_ROLE_CREATE",
        "CHANNEL_CREATE",
        "GUILD_MEMBER_ADD",
        "GUILD_ROLE_CREATE",
        "GUILD_MEMBER_UPDATE",
        "GUILD_ROLE_UPDATE",
        "GUILD_UPDATE",
        "CHANNEL_DELETE",
        "GUILD_MEMBER_REMOVE",
        "GUILD_DELETE",
    ]
    gone: dict[str, Any] = (await client.read())["d"]
    assert gone == {"id": str(guild.id)}
    guild.add_channel("unseen")
    guild.add_bot()
    assert (await client.read())["t"] == "GUILD_CREATE"
    assert alice.id in guild.members


def test_permissions_follow_roles_and_ownership() -> None:
    sim = DiscordSim()
    owner, member = sim.add_user("owner-of-guild"), sim.add_user("member")
    guild = sim.add_guild("g", owner=owner)
    plain = guild.add_member(member)
    assert not plain.permissions & (1 << 5)
    assert guild.add_member(member, permissions=1 << 5).permissions & (1 << 5)
    assert guild.add_member(member, roles=[guild.add_role("admin", 8)]).permissions & (1 << 5)
    assert guild.members[owner.id].permissions & 8


def test_ids_grow_and_spread_over_shards() -> None:
    sim = DiscordSim(clock=lambda: 1_800_000_000.0)
    guilds = [sim.add_guild(f"g{n}").id for n in range(8)]
    assert guilds == sorted(guilds)
    assert {(g >> 22) % 4 for g in guilds} == {0, 1, 2, 3}
    users = [sim.add_user("u").id for _ in range(100)]
    assert len(set(users)) == 100
    assert users == sorted(users)


async def test_direct_and_ephemeral_messages_carry_no_guild(
    sim: DiscordSim, guild: SimGuild, alice: SimUser, connect: ConnectRaw
) -> None:
    client = await connect(identify=True)
    await client.until("GUILD_CREATE")
    assert await sim.dm(alice, "status", timeout=0) == []
    direct = (await client.read())["d"]
    assert "guild_id" not in direct
    assert "member" not in direct
    assert direct["channel_type"] == 1
    (frame,) = sim.message(guild, content="hi", mention_everyone=True)
    public = (await client.read())["d"]
    assert public["guild_id"] == str(guild.id)
    assert public["member"]["roles"] == []
    assert public["mention_everyone"] is True
    assert frame.guild_id == guild.id
