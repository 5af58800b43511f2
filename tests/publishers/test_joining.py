"""Which of the events that were kept are stored already, from another session."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.sharding.joining import Copy, Kept, key_of, stored_places


def kept(text: str, lane: str = "1", begin: float = 0.0) -> list[Kept]:
    return [Kept(letter.encode(), lane, begin + number) for number, letter in enumerate(text)]


def copies(text: str, begin: float = 0.0) -> list[Copy]:
    return [Copy(letter.encode(), begin + number) for number, letter in enumerate(text)]


def left(events: str, stored: str, *, apart: float = 0.0) -> str:
    """What is not stored; `apart`: how many seconds before the first event the first copy was stored."""
    places = stored_places(kept(events), {"1": copies(stored, -apart)})
    return "".join(letter for place, letter in enumerate(events) if place not in places)


def test_what_follows_the_last_copy_is_not_stored() -> None:
    assert left("cdef", "abcd") == "ef"
    assert left("cdef", "ab") == "cdef"
    assert left("abc", "abc") == ""
    assert left("abc", "") == "abc"


def test_events_that_only_one_of_the_sessions_gets_do_not_matter() -> None:
    assert left("cdef", "abcxdx") == "ef"
    assert left("cydyef", "abcd") == "yef"


def test_the_same_event_twice_is_told_by_its_neighbours_and_by_time() -> None:
    assert left("xaxb", "yxax") == "b"
    assert left("axbx", "axbx") == ""
    assert left("axbx", "ax") == "bx"
    # Nothing but the same: the first copy was stored a second before the first event was received.
    assert left("aaa", "aaa", apart=1.0) == "a"


def test_each_guild_has_its_own_end_and_those_without_one_are_looked_for_one_by_one() -> None:
    events = [*kept("ab", "1"), *kept("cd", "2"), *kept("efef", "")]
    stored = {"1": copies("a"), "2": copies("cd"), "": copies("fe")}
    assert stored_places(events, stored) == {0, 2, 3, 4, 5}


def test_what_is_settled_is_stored_though_no_copy_is_found() -> None:
    events = [Kept(b"a", "1", 0.0, is_settled=True), Kept(b"b", "1", 1.0)]
    assert stored_places(events, {}) == {0}


@given(st.text("abcd", max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_any_cut_is_found_where_events_differ(text: str, begin: int, end: int) -> None:
    """The first one stored up to `end`, the other kept from `begin` on; each event is another one."""
    events = [f"{letter}{number}".encode() for number, letter in enumerate(text)]
    begin = min(begin, len(events))
    mine = [Kept(key, "1", float(begin + n)) for n, key in enumerate(events[begin:])]
    theirs = [Copy(key, float(n)) for n, key in enumerate(events[:end])]
    places = stored_places(mine, {"1": theirs})
    assert places == set(range(max(0, min(end, len(events)) - begin)))


def test_a_key_is_the_same_in_every_session_and_in_no_other_event() -> None:
    one = b'{"t":"TYPING_START","s":1,"op":0,"d":{"guild_id":"1","s":1}}'
    other = b'{"t":"TYPING_START","s":77,"op":0,"d":{"guild_id":"1","s":1}}'
    assert key_of(one) == key_of(other)
    assert key_of(one) != key_of(other.replace(b'"s":1}}', b'"s":2}}'))
    assert key_of(one) != key_of(one.replace(b"TYPING_START", b"TYPING_STOP"))


def test_a_message_is_the_same_with_and_without_its_content() -> None:
    read = b'{"t":"MESSAGE_CREATE","s":1,"op":0,"d":{"id":"5","content":"hello"}}'
    unread = b'{"t":"MESSAGE_CREATE","s":9,"op":0,"d":{"id":"5","content":""}}'
    assert key_of(read) == key_of(unread)
    assert key_of(read) != key_of(read.replace(b'"5"', b'"6"'))
    edited = read.replace(b"CREATE", b"UPDATE").replace(b'"id"', b'"edited_timestamp":"now","id"')
    assert key_of(edited) != key_of(read.replace(b"CREATE", b"UPDATE"))


def test_bytes_that_are_no_json_for_msgspec_are_compared_without_their_number() -> None:
    one = b'{"t":"X","s":12,"op":0,"d":{"n":"\xff"}}'
    assert key_of(one) == key_of(one.replace(b'"s":12', b'"s":3456'))
    assert key_of(one) != key_of(one.replace(b"\xff", b"\xfe"))
