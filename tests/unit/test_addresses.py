"""One address, one meaning: what is read from it, what is refused, and that no secret is repeated."""

from __future__ import annotations

import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_core.addresses import AddressError, NatsAddress, PostgresAddress, RedisAddress
from sandbox_core.context import SandboxContext
from sandbox_core.settings import SettingsError, load_settings

# Nothing of it is in any sentence, so whatever is found of it was repeated.
_LETTERS = "ŁØÞЖЯΩ"
_ODD = st.text(st.sampled_from(f"{_LETTERS}@/#?%:&+= \"'\\[]"), min_size=3, max_size=24)


def secret(value: object) -> str:
    return value.get_secret_value() if value is not None else ""  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("text", "where", "user", "password", "database"),
    [
        ("postgresql://u:p@h:1/d", "h:1", "u", "p", "d"),
        ("postgresql://u:p@ss@h:1/d", "h:1", "u", "p@ss", "d"),
        ("postgresql://u:p%40ss@h/d", "h:5432", "u", "p@ss", "d"),
        ("postgresql://u:a:b,c@h/d", "h:5432", "u", "a:b,c", "d"),
        ("postgresql://u%40x:%25%2F%3F%23@h/d%20e", "h:5432", "u@x", "%/?#", "d e"),
        ("postgres://u@h", "h:5432", "u", "", None),
        ("postgresql://u:@h/", "h:5432", "u", "", None),
        ("postgresql://u:p@[::1]:6/d", "[::1]:6", "u", "p", "d"),
        ("postgresql://u:p@a:1,b/d", "a:1, b:5432", "u", "p", "d"),
        ("postgresql://u:p@/d?host=/run/pg&port=6", "/run/pg:6", "u", "p", "d"),
        ("postgresql://u@%2Frun%2Fpg/d", "/run/pg:5432", "u", "", "d"),
        ("postgresql://h/d?user=u&password=in%2Bquery", "h:5432", "u", "in+query", "d"),
    ],
)
def test_postgres(text: str, where: str, user: str, password: str, database: str | None) -> None:
    read = PostgresAddress.parse(text)
    assert (read.where, read.user, secret(read.password), read.database) == (where, user, password, database)


@pytest.mark.parametrize(
    ("text", "where", "user", "password", "database", "tls"),
    [
        ("redis://h", "h:6379", None, "", 0, False),
        ("redis://:p%40@h/3", "h:6379", None, "p@", 3, False),
        ("rediss://u:p@ss@[::1]:7/0", "[::1]:7", "u", "p@ss", 0, True),
        ("redis://u@h", "h:6379", "u", "", 0, False),
        ("redis://h?db=2&username=u&password=of+it", "h:6379", "u", "of it", 2, False),
    ],
)
def test_redis(text: str, where: str, user: str | None, password: str, database: int, tls: bool) -> None:
    read = RedisAddress.parse(text)
    assert (read.where, read.user, secret(read.password)) == (where, user, password)
    assert (read.database, read.tls) == (database, tls)


@pytest.mark.parametrize(
    ("text", "servers", "user", "password", "token"),
    [
        ("nats://h", ["nats://h:4222"], None, "", ""),
        ("nats://u:p%40ss@h", ["nats://h:4222"], "u", "p@ss", ""),
        ("nats://u:p@ss@a:1, tls://b", ["nats://a:1", "tls://b:4222"], "u", "p@ss", ""),
        ("nats://a,nats://t%2Ck@b", ["nats://a:4222", "nats://b:4222"], None, "", "t,k"),
        ("nats://u:@[::1]:9", ["nats://[::1]:9"], "u", "", ""),
    ],
)
def test_nats(text: str, servers: list[str], user: str | None, password: str, token: str) -> None:
    read = NatsAddress.parse(text)
    assert read.arguments()["servers"] == servers
    assert (read.user, secret(read.password), secret(read.token)) == (user, password, token)


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("DATABASE_URL", "postgresql://u:p%ss@h/d", "A % in it is written %25"),
        ("DATABASE_URL", "postgresql://u:%ff%fe@h/d", "A % in it is written %25"),
        ("DATABASE_URL", "postgresql://u:a/b@h/d", "Write / as %2F"),
        ("DATABASE_URL", "postgresql://u:a?b@h/d", "Write / as %2F"),
        ("DATABASE_URL", "postgresql://u:a#b@h/d", "A # in it is written %23"),
        ("DATABASE_URL", "postgresql://u:a b@h/d", "A space or a line break"),
        ("DATABASE_URL", "postgresql://u:p@h/d?sslmode=on", "sslmode must be one of disable"),
        ("DATABASE_URL", "postgresql://u:p@h/d?connect_timeout=3", "connect_timeout is not known here"),
        ("DATABASE_URL", "postgresql://u:p@h/d?password=q", "the password twice"),
        ("DATABASE_URL", "postgresql://u:p@::1:5432/d", "an IPv6 host has brackets"),
        ("DATABASE_URL", "postgresql://u:p@h:99999/d", "a number from 1 to 65535"),
        ("DATABASE_URL", "postgresql://u:p@/d", "The host's name is missing"),
        ("REDIS_URL", "redis://h/first", "must be a number"),
        ("REDIS_URL", "redis://h?ssl_ca_certs=x", "rediss://"),
        ("REDIS_URL", "http://h", "It begins with redis:// or rediss://."),
        ("NATS_URL", "nats://u:a,b@h", "a comma in a password is written %2C"),
        ("NATS_URL", "nats://u:a@h,nats://u:b@i", "need the same login"),
        ("NATS_URL", "nats://h/x", "Nothing may follow"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_at_the_start(variable: str, text: str, said: str) -> None:
    right = {"database_url": "postgresql://h/d", "redis_url": "redis://h", "nats_url": "nats://h"}
    with pytest.raises(SettingsError) as refused:
        load_settings(_env_file=None, **{**right, variable.lower(): text})
    (problem,) = refused.value.problems
    assert problem.startswith(f"{variable} can't be used: it takes ")
    assert said in problem
    environment = {name.upper(): value for name, value in right.items()} | {variable: text}
    with pytest.raises(SettingsError) as worker:
        SandboxContext.from_env(environment)
    assert worker.value.problems == [problem]


def pieces(of: str) -> set[str]:
    """Signs alone may stand in any sentence."""
    found = {of[at : at + 3] for at in range(len(of) - 2)}
    return {piece for piece in found if set(piece) & set(_LETTERS)}


@given(_ODD)
def test_an_encoded_password_means_the_same_to_every_client(password: str) -> None:
    encoded = quote(password, safe="")
    postgres = PostgresAddress.parse(f"postgresql://u:{encoded}@h/d")
    redis = RedisAddress.parse(f"redis://u:{encoded}@h")
    nats = NatsAddress.parse(f"nats://u:{encoded}@a,nats://b")
    for read in (postgres, redis, nats):
        assert read.arguments()["password"] == password
        shown = f"{read!r} {read} {read.where} {read.who}"
        assert not any(piece in shown for piece in pieces(password))
    assert NatsAddress.parse(f"nats://{encoded}@a").arguments()["token"] == password


@given(_ODD)
def test_a_raw_password_is_read_as_it_stands_or_refused_without_a_piece_of_it(password: str) -> None:
    for variable, parse, text in (
        ("database_url", PostgresAddress.parse, f"postgresql://u:{password}@h:1/d"),
        ("redis_url", RedisAddress.parse, f"redis://u:{password}@h:1/0"),
        ("nats_url", NatsAddress.parse, f"nats://u:{password}@h:1"),
    ):
        try:
            read = parse(text)
        except AddressError:
            pass
        else:
            if "%" not in password:
                assert read.arguments()["password"] == password
        right = {"database_url": "postgresql://h/d", "redis_url": "redis://h", "nats_url": "nats://h"}
        try:
            shown = repr(load_settings(_env_file=None, **{**right, variable: text}))
        except SettingsError as error:
            shown = f"{error!r} {error} " + "".join(traceback.format_exception(error))
        assert not any(piece in shown for piece in pieces(password))
