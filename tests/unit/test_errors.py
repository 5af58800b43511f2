from __future__ import annotations

import re

import pytest

from sandbox_core import errors
from sandbox_core.error_text import ErrorText, explain, has_own_text, shown
from sandbox_core.models import SandboxStatus

SAMPLES: list[errors.SandboxError] = [
    errors.NameTaken("flow"),
    errors.NameTaken("flow", SandboxStatus.RUNNING),
    errors.OwnerLimitReached(2, ["one", "two"]),
    errors.GuildLimitReached(100),
    errors.ShareLimitReached(10),
    errors.SlotsUsedUp("tenants:4222", 100),
    errors.StorageUsedUp("PostgreSQL", 2**28, 2**28, sandbox_name="mine"),
    errors.GuildAlreadyMapped("100000000000000001", "flow"),
    errors.SandboxNotFound("flwo", ["flow"]),
    errors.SchemaCreationFailed("sandbox_3f2a9c01", "permission denied for database x"),
    errors.CleanupFailed("flow", "Redis", "it can't be reached"),
    errors.ResetUnfinished("mine", "Redis", "connection refused"),
    errors.StillWritten("Redis", "keys"),
    errors.InvalidInput("name", "A", "names are lower case", "`a`"),
    errors.SandboxNotNamed(),
    errors.SandboxNotNamed(["welcome-flow", "try-login"]),
    errors.BotNotInGuild("100000000000000001"),
    errors.SandboxNotRunning("flow", SandboxStatus.EXPIRED),
    errors.TransitionNotAllowed(SandboxStatus.DESTROYED, SandboxStatus.RUNNING),
    errors.NotPermitted("destroy `flow`", "its owner"),
    errors.GuildProtected("100000000000000001"),
    errors.ConfirmationNeeded("100000000000000001", "Production"),
    errors.GuildNotRegistered("100000000000000001"),
    errors.GuildNotRegistered("100000000000000001", "flow"),
    errors.DependencyUnavailable("Redis", "it can't be reached"),
    errors.DependencyUnavailable("Redis", "it can't be reached", "h:1"),
    errors.DependencyFaulty("Redis", "its memory is full (OOM)", "h:1"),
    errors.NotFinished("PostgreSQL", 15),
    errors.OutcomeUnknown("PostgreSQL", "the connection was lost", "h:1"),
    errors.CutOff(errors.NotFinished("PostgreSQL", 8)),
    errors.LoginRefused("Redis", where="h:1", user="x", problem="no", setting="REDIS_URL"),
    errors.NotMigrated(),
    errors.RotationUnfinished("Redis", "it can't be reached", "h:1"),
    errors.SharingUnfinished("Redis", "it can't be reached", "h:1"),
    errors.SharingImpossible("flow"),
    errors.IsolationImpossible("Redis", "h:1", "it is Redis 6", "Take Redis 7."),
    errors.NoCredentials("flow"),
    errors.NoCredentials("flow", outdated=True),
    errors.ProductionTokenOutdated(),
    errors.StreamUnusable("EVENTS", "127.0.0.1:4222", "is sealed", "Remove it."),
    errors.DoesNotFit("The file", "it is no JSON", "Take another."),
]


def every_class(base: type[errors.SandboxError] = errors.SandboxError) -> list[type[errors.SandboxError]]:
    children = [child for child in base.__subclasses__() if child.__module__.startswith(errors.__name__)]
    return children + [grandchild for child in children for grandchild in every_class(child)]


def test_every_class_has_a_sample_here() -> None:
    assert {type(sample) for sample in SAMPLES} == set(every_class())


@pytest.mark.parametrize("cls", every_class())
def test_every_class_has_a_code_and_words(cls: type[errors.SandboxError]) -> None:
    assert re.fullmatch(r"SANDBOX_0(0[1-9]|1[0-5])", cls.code)
    assert has_own_text(cls)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_explains_itself(error: errors.SandboxError) -> None:
    text = explain(error)
    assert text.code == error.code
    assert text.sentence.endswith(".")
    # For logs and tracebacks: the code, the class and its facts.
    assert str(error).startswith(f"{error.code} {type(error).__name__}(")
    assert str(text) == f"{text.sentence} {text.way_out}".strip()


def test_a_reason_that_is_a_sentence_ends_with_one_full_stop() -> None:
    reason = explain(errors.StillWritten("Redis", "keys")).sentence
    assert reason == "Something still writes the sandbox's keys in Redis."
    text = explain(errors.CleanupFailed("flow", "Redis", reason))
    assert text.sentence == (
        "Destroying `flow` stopped at “Redis”: Something still writes the sandbox's keys in Redis."
    )


def test_every_code_is_used() -> None:
    assert {cls.code for cls in every_class()} == {f"SANDBOX_{number:03}" for number in range(1, 16)}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, tuple[int, str]] = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([ │├└─]*)(\w+)\s+(SANDBOX_\d{3})$", line):
            drawn[match[2]] = (len(match[1]), match[3])
    assert {name: code for name, (_, code) in drawn.items()} == {
        cls.__name__: cls.code for cls in every_class()
    }
    depths = {cls.__name__: len(cls.__mro__) for cls in every_class()}
    for name, (indent, _) in drawn.items():
        for other, (other_indent, _) in drawn.items():
            assert (indent < other_indent) == (depths[name] < depths[other]), (name, other)


def test_a_class_without_words_is_a_fault() -> None:
    class Unheard(errors.SandboxError):
        code = "SANDBOX_099"

    assert not has_own_text(Unheard)
    with pytest.raises(LookupError):
        explain(Unheard())


@pytest.mark.parametrize(
    ("error", "sentence", "way_out"),
    [
        (
            errors.OwnerLimitReached(2, ["one", "two"]),
            "You already have 2 sandboxes; the limit is 2.",
            "Destroy one of them first: `one`, `two`.",
        ),
        (
            errors.GuildAlreadyMapped("1", None),
            "Server 1 already sends its events to another sandbox.",
            "Somebody with access to that sandbox can unregister it there.",
        ),
        (
            errors.SandboxNotFound("flwo", ["flow"]),
            "There is no sandbox `flwo`.",
            "Did you mean `flow`? `/sandbox list` shows them.",
        ),
        (errors.SandboxNotFound("x"), "There is no sandbox `x`.", "`/sandbox list` shows them."),
        (
            errors.InvalidInput("name", "", "it is empty", "`flow`"),
            "The name can't be used: it is empty.",
            "For example: `flow`.",
        ),
    ],
)
def test_words(error: errors.SandboxError, sentence: str, way_out: str) -> None:
    assert explain(error) == ErrorText(error.code, sentence, way_out)


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("flow", "flow"),
        ("`@everyone`", "??everyone?"),
        ("two\nlines\0", "two?lines?"),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 77 + "..."),
    ],
)
def test_a_callers_text_is_repeated_harmlessly(value: str, safe: str) -> None:
    assert shown(value) == safe
