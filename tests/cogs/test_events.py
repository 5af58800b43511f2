"""`/sandbox events`: the last ones, live ones, one of them whole, and Replay; on real streams."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any, cast

import pytest
import simcord

from sandbox_cogs.sandbox._render_events import SHOWN
from sandbox_cogs.sandbox._watch import EVERY_SECONDS, WATCH_SECONDS, watches_of
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.models import Sandbox
from sandbox_core.nats.sandbox_streams import sandbox_config
from sandbox_core.nats.streams import StreamLimits

from .conftest import COOKS_GUILD, Press, Scene, code_of, embed_of, labels_of, pass_time, text_of, until

CHANNEL = "400000000000000001"
TOKEN = "aW50ZXJhY3Rpb246MTIzNDU2Nzg5MDEyMzQ1Njc4OmFiY2RlZg"
_numbers = itertools.count(1)


async def sandboxed(scene: Scene, name: str = "mine") -> Sandbox:
    await scene.alice.slash(scene.channel, "sandbox create", name=name, guild=str(COOKS_GUILD))
    return await scene.core.manager.get(name)


async def put(
    scene: Scene, sandbox: Sandbox, content: str, event_type: str = "MESSAGE_CREATE", **more: Any
) -> int:
    """Store an event, as the bot does that publishes Discord's. Return its number."""
    number = next(_numbers)
    author = {"id": "200000000000000077", "username": "cook", "global_name": "Cook *1*"}
    data = {"id": str(9 * 10**17 + number), "channel_id": CHANNEL, "author": author, "content": content}
    frame = {"t": event_type, "s": number, "op": 0, "d": {**data, "guild_id": str(COOKS_GUILD), **more}}
    headers = {
        "Nats-Msg-Id": f"session:0:{number}",
        "Discord-Event": event_type,
        "Discord-Guild-Id": str(COOKS_GUILD),
        "Sandbox-Id": str(sandbox.id),
    }
    stream = await scene.core.writing.stream(sandbox.id)
    return await stream.write(event_type, json.dumps(frame).encode(), headers)


async def opened(scene: Scene, **options: Any) -> simcord.ResponseMessage:
    result = await scene.alice.slash(scene.channel, "sandbox events", **options)
    embed_of(result)
    assert result.response is not None
    return result.response


async def followed(scene: Scene, **options: Any) -> simcord.ResponseMessage:
    message = await opened(scene, follow=True, **options)
    await until(lambda: watches_of(cast("Any", scene.env.bot)).ends_at(message.id) is not None)
    return message


def shown(message: simcord.ResponseMessage) -> str:
    return text_of(message.embeds[0])


def menu_of(message: simcord.ResponseMessage) -> list[dict[str, Any]]:
    (menu,) = message.components[0]["components"]
    options: list[dict[str, Any]] = menu["options"]
    return options


def refusal_of(press: Press) -> str | None:
    """The error code of the press's answer, once there is one."""
    shown = press.result.response
    embeds = [] if shown is None else shown.embeds
    return embeds[0].footer.text if embeds else None


def following(scene: Scene) -> int:
    return len(watches_of(cast("Any", scene.env.bot)))


async def file_of(result: simcord.InteractionResult) -> list[dict[str, Any]]:
    assert result.response is not None
    (file,) = result.response.attachments
    assert file.filename == "events.json"
    found: list[dict[str, Any]] = json.loads(await file.read())
    return found


async def frames(scene: Scene, sandbox: Sandbox) -> list[tuple[bytes, dict[str, str]]]:
    place = await scene.core.places.of(sandbox.id, credentials=sandbox.generation)
    info = await place.js.stream_info(place.stream)
    messages = [
        await place.js.get_msg(place.stream, number)
        for number in range(info.state.first_seq, info.state.last_seq + 1)
    ]
    return [(each.data or b"", each.headers or {}) for each in messages]


async def test_the_last_events_have_a_line_each(scene: Scene) -> None:
    mine = await sandboxed(scene)
    empty = await opened(scene, name="mine")
    assert "There are none now." in shown(empty)
    assert labels_of(empty) == ["Refresh"]
    await put(scene, mine, "first @everyone **bold** [x](https://x.example)")
    await put(scene, mine, "", "TYPING_START", user_id="200000000000000078", author=None)
    message = await opened(scene, name="mine")
    embed = message.embeds[0]
    assert embed.title == "Events of mine"
    first, second = (embed.description or "").splitlines()
    assert first.startswith("<t:")
    assert f":T> `MESSAGE_CREATE` <#{CHANNEL}> Cook \\*1\\*: first @\u200beveryone" in first
    assert r"\*\*bold\*\* \[x](https://x.example)" in first
    assert f"`TYPING_START` <#{CHANNEL}> <@200000000000000078>" in second
    assert [option["label"] for option in menu_of(message)] == [
        "TYPING_START · 200000000000000078",
        "MESSAGE_CREATE · Cook *1*",
    ]
    sent = [each for each in scene.env.http_requests if each.method == "PATCH"][-1]
    assert sent.json["allowed_mentions"] == {"parse": []}


async def test_only_one_type_and_only_the_newest(scene: Scene) -> None:
    mine = await sandboxed(scene)
    for number in range(SHOWN + 5):
        await put(scene, mine, f"word{number}.")
        await put(scene, mine, "", "TYPING_START")
    message = await opened(scene, name="mine", type="message_create")
    lines = (message.embeds[0].description or "").splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == [f"word{number}." for number in range(5, SHOWN + 5)]
    await put(scene, mine, "later.")
    await scene.alice.click(message, label="Refresh")
    assert "only MESSAGE_CREATE" in shown(message)
    assert shown(message).endswith("later.")
    refused = await scene.alice.slash(scene.channel, "sandbox events", name="mine", type="MESSAGE_CRATE")
    assert code_of(refused) == "SANDBOX_015"
    assert "Did you mean MESSAGE_CREATE" in text_of(embed_of(refused))


async def test_types_and_names_are_suggested(scene: Scene) -> None:
    await sandboxed(scene)

    async def types(typed: str) -> list[str]:
        choices = await scene.alice.autocomplete(scene.channel, "sandbox events", "type", typed)
        return [str(each["value"]) for each in choices]

    assert (await types("poll")) == ["MESSAGE_POLL_VOTE_ADD", "MESSAGE_POLL_VOTE_REMOVE"]
    assert (await types("message cr")) == ["MESSAGE_CREATE"]
    assert len(await types("")) == 25
    assert "READY" not in await types("READY")
    names = await scene.alice.autocomplete(scene.channel, "sandbox events", "name", "mi")
    assert [each["value"] for each in names] == ["mine"]


async def test_only_who_may_read_them(scene: Scene) -> None:
    mine = await sandboxed(scene)
    await put(scene, mine, "a secret")
    message = await followed(scene, name="mine")
    refused = await scene.bob.slash(scene.channel, "sandbox events", name="mine")
    assert code_of(refused) == "SANDBOX_010"
    chosen = menu_of(message)[0]["value"]
    one = (await scene.alice.select(message, [chosen])).response
    assert one is not None
    for below, custom_id, picked in (
        (one, f"sandbox:replay:{mine.id}:{chosen}", None),
        (message, f"sandbox:eventsjson:{mine.id}", None),
        (message, f"sandbox:replay:{mine.id}", None),
        (message, f"sandbox:event:{mine.id}", [chosen]),
        (message, f"sandbox:events:{mine.id}:", None),
    ):
        press = Press(scene, scene.bob, below, custom_id=custom_id, chosen=picked)
        press.send()
        await until(lambda press=press: refusal_of(press))
        assert refusal_of(press) == "SANDBOX_010", custom_id
    assert len(await frames(scene, mine)) == 1
    owner = await scene.bot_owner.slash(scene.channel, "sandbox events", name="mine")
    assert "a secret" in text_of(embed_of(owner))


async def test_one_event_is_shown_whole_without_its_token(scene: Scene) -> None:
    mine = await sandboxed(scene)
    number = await put(scene, mine, "look ``` at me", token=TOKEN)
    message = await opened(scene, name="mine")
    result = await scene.alice.select(message, [menu_of(message)[0]["value"]])
    assert result.response is not None
    embed = result.response.embeds[0]
    assert embed.title == "MESSAGE_CREATE in mine"
    text = embed.description or ""
    assert text.startswith("```json\n{")
    assert text.count("```") == 2
    assert '"content": "look `\u200b`` at me"' in text
    (one,) = await file_of(result)
    assert (one["id"], one["frame"]["d"]["content"]) == (str(number), "look ``` at me")
    assert one["headers"]["Discord-Event"] == "MESSAGE_CREATE"
    assert TOKEN not in text + json.dumps(one)
    assert labels_of(result.response) == ["Replay"]


async def test_what_is_shown_comes_as_a_file(scene: Scene) -> None:
    mine = await sandboxed(scene)
    for word in ("one", "two"):
        await put(scene, mine, word)
    message = await opened(scene, name="mine")
    await put(scene, mine, "not shown")
    result = await scene.alice.click(message, label="JSON")
    assert [each["frame"]["d"]["content"] for each in await file_of(result)] == ["one", "two"]
    assert "2 events of mine" in text_of(embed_of(result))


async def test_what_is_too_large_for_a_file_is_left_out_and_said(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The module that the bot uses: others may be left of an extension that was loaded before.
    monkeypatch.setattr(sys.modules["sandbox_cogs.sandbox._render_events"], "_FILE_BYTES", 5000)
    mine = await sandboxed(scene)
    for word in ("one", "two", "three"):
        await put(scene, mine, word * 100)
    message = await opened(scene, name="mine")
    result = await scene.alice.click(message, label="JSON")
    assert [each["frame"]["d"]["content"][:5] for each in await file_of(result)] == ["twotw", "three"]
    assert "The 1 oldest are too large" in text_of(embed_of(result))


async def test_replay_stores_what_is_shown_again(scene: Scene, simcord_bot: Any) -> None:
    mine = await sandboxed(scene)
    for word in ("one", "two"):
        await put(scene, mine, word)
    message = await opened(scene, name="mine")
    assert labels_of(message) == ["Refresh", "Replay these 2", "JSON"]
    # Buttons need nothing of the process that made them.
    await simcord_bot.reload_extension("sandbox_cogs.sandbox")
    result = await scene.alice.click(message, label="Replay these 2")
    assert "2 events replayed into mine" in text_of(embed_of(result))
    stored = await frames(scene, mine)
    assert [frame for frame, _ in stored[:2]] == [frame for frame, _ in stored[2:]]
    assert [headers.get("Sandbox-Origin") for _, headers in stored] == [None, None, "replayed", "replayed"]
    assert len({headers["Nats-Msg-Id"] for _, headers in stored}) == 4
    again = await opened(scene, name="mine")
    assert shown(again).count("(replayed)") == 2
    # And one of them alone.
    picked = await scene.alice.select(message, [menu_of(message)[0]["value"]])
    assert picked.response is not None
    result = await scene.alice.click(picked.response, label="Replay")
    assert "1 event replayed into mine" in text_of(embed_of(result))
    assert (await frames(scene, mine))[-1][0] == stored[1][0]


async def test_what_has_gone_is_not_replayed_and_nothing_else_is(scene: Scene) -> None:
    mine = await sandboxed(scene)
    for word in ("one", "two"):
        await put(scene, mine, word)
    message = await opened(scene, name="mine")
    place = await scene.core.places.of(mine.id, credentials=mine.generation)
    await place.js.delete_msg(place.stream, 1)
    refused = await scene.alice.click(message, label="Replay these 2")
    assert code_of(refused) == "SANDBOX_015"
    # A stream that is made anew gives the same numbers to other events.
    await place.js.delete_stream(place.stream)
    await place.js.add_stream(sandbox_config(StreamLimits(), mine.id))
    await put(scene, mine, "another")
    for label in ("Replay these 2", "JSON"):
        assert code_of(await scene.alice.click(message, label=label)) == "SANDBOX_015"
    assert code_of(await scene.alice.select(message, [menu_of(message)[1]["value"]])) == "SANDBOX_015"
    assert len(await frames(scene, mine)) == 1


async def test_a_server_that_was_given_back_gets_no_replay(scene: Scene) -> None:
    mine = await sandboxed(scene)
    await put(scene, mine, "one")
    message = await opened(scene, name="mine")
    await scene.alice.slash(scene.channel, "sandbox unregister-guild", guild=str(COOKS_GUILD))
    assert code_of(await scene.alice.click(message, label="Replay it")) == "SANDBOX_011"
    assert len(await frames(scene, mine)) == 1


async def test_a_message_is_kept_up_to_date_and_then_says_that_it_is_not(scene: Scene) -> None:
    mine = await sandboxed(scene)
    await put(scene, mine, "before")
    message = await followed(scene, name="mine")
    assert "This message is kept up to date" in shown(message)
    assert labels_of(message) == ["Refresh", "Replay it", "JSON", "Stop following"]
    await put(scene, mine, "while it is open")
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: "while it is open" in shown(message))
    assert "before" in shown(message)
    await pass_time(scene, WATCH_SECONDS - EVERY_SECONDS)
    await until(lambda: following(scene) == 0)
    assert "kept up to date no more" in shown(message)
    assert labels_of(message) == ["Refresh", "Replay these 2", "JSON"]


async def test_following_can_be_stopped(scene: Scene) -> None:
    mine = await sandboxed(scene)
    await put(scene, mine, "before")
    message = await followed(scene, name="mine", type="MESSAGE_CREATE")
    await scene.alice.click(message, label="Stop following")
    assert following(scene) == 0
    assert "kept up to date no more" in shown(message)
    assert "only MESSAGE_CREATE" in shown(message)


async def test_following_survives_an_outage_and_says_what_it_missed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await sandboxed(scene)
    await put(scene, mine, "before")
    message = await followed(scene, name="mine")
    place = await scene.core.places.of(mine.id, credentials=mine.generation)
    with monkeypatch.context() as away:
        away.setattr(scene.core.places, "of", _away)
        await pass_time(scene, EVERY_SECONDS)
        await until(lambda: message.embeds[0].footer.text == "SANDBOX_012")
        assert labels_of(message) == ["Refresh", "Stop following"]
        for word in ("gone", "gone too", "still there"):
            last = await put(scene, mine, word)
        await place.js.purge_stream(place.stream, seq=last)
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: "still there" in shown(message))
    assert "Missed: at most 2 events were removed" in shown(message)
    # A memory stream that its server has lost, and the bot has made again.
    await place.js.delete_stream(place.stream)
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: message.embeds[0].footer.text == "SANDBOX_012")
    await place.js.add_stream(sandbox_config(StreamLimits(), mine.id))
    await put(scene, mine, "in the new one")
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: "in the new one" in shown(message))
    assert "was made anew" in shown(message)
    assert "still there" not in shown(message)


async def _away(*_: object, **__: object) -> None:
    raise DependencyUnavailable("NATS", "no server accepts connections")


async def test_following_ends_with_the_sandbox(scene: Scene) -> None:
    await sandboxed(scene)
    message = await followed(scene, name="mine")
    await scene.core.pool.execute(
        "UPDATE sandboxes SET created_at = created_at - interval '2 days', "
        "expires_at = expires_at - interval '2 days'"
    )
    await pass_time(scene, EVERY_SECONDS)
    await until(lambda: following(scene) == 0)
    assert message.embeds[0].footer.text == "SANDBOX_008"
    assert labels_of(message) == []


async def test_with_several_sandboxes_a_menu_asks_which(scene: Scene) -> None:
    for name in ("first", "second"):
        await scene.alice.slash(scene.channel, "sandbox create", name=name)
    message = await opened(scene, type="MESSAGE_CREATE")
    assert message.embeds[0].title == "Which sandbox?"
    first = await scene.core.manager.get("first")
    await put(scene, first, "of the first")
    await scene.alice.select(message, [str(first.id)])
    assert "Events of first, only MESSAGE_CREATE" in shown(message)
    assert "of the first" in shown(message)


async def test_strangers_values_are_refused(scene: Scene) -> None:
    mine = await sandboxed(scene)
    await put(scene, mine, "one")
    message = await opened(scene, name="mine")
    for chosen in (["x"], ["1:2:3"], ["9" * 30 + ":1"], ["0:1"]):
        press = Press(scene, scene.alice, message, custom_id=f"sandbox:event:{mine.id}", chosen=chosen)
        press.send()
        await until(lambda press=press: refusal_of(press))
        assert refusal_of(press) == "SANDBOX_015", chosen
