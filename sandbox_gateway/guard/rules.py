"""The table of rules, `rules.tsv`: what a bot in a sandbox may do at Discord, and what decides it.

    refuse         never; the note says why, for the client
    answer         answered here; Discord is not asked
    common         the same for every sandbox, and kept for a minute; with the note `application`, cleaned
    allow          sent on as it is
    rewrite        the note names what is sent and answered instead
    guild          if the path's guild is the sandbox's
    channel        if the path's channel is in a guild of the sandbox; the note names a field that is needed
    body           if the channel in the field that the note names is
    activity       if the guild and the channel in the instance's id are
    response       if the guild at the note's place of the answer is; with `?`, or if there is none
    invite         if the invite's guild is, which Discord is asked first
    template       if the path's guild is, and the template's, which Discord is asked first
    webhook        if the webhook's guild is, which Discord is asked first
    webhook_token  if the interaction was this sandbox's, or the webhook's guild is
    interaction    if the interaction was this sandbox's
    commands       the part for commands decides, in the sandbox's guilds only

Whatever a rule lets through, each guild and each channel that the query or the body names has to be the
sandbox's too (`ids.py`), and each application its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, get_args

from sandbox_core.models import RestLevel

from .answers import unknown_route
from .paths import Target, Template

Decision = Literal[
    "refuse",
    "answer",
    "common",
    "allow",
    "rewrite",
    "guild",
    "channel",
    "body",
    "activity",
    "response",
    "invite",
    "template",
    "webhook",
    "webhook_token",
    "interaction",
    "commands",
]
Act = Literal["read", "write", "moderate"]

_NEEDS: dict[Act, RestLevel] = {
    "read": RestLevel.READ_ONLY,
    "write": RestLevel.NO_MODERATION,
    "moderate": RestLevel.FULL,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    method: str
    template: Template
    decision: Decision
    act: Act
    moderates: frozenset[str]
    """Fields of the body that are moderation, in an act that otherwise is none."""
    note: str
    operation: str
    """Discord's name of the operation; empty for a route that Discord does not describe."""

    @property
    def route(self) -> str:
        """The method and the path without its values, for logs and metrics."""
        return f"{self.method} {self.template.text}"

    @property
    def has_own_token(self) -> bool:
        """Whether the path has a token, so that libraries send no Authorization header."""
        return self.decision in {"webhook_token", "interaction"}

    @property
    def needs(self) -> RestLevel:
        """The lowest level with which the operation can be called."""
        return _NEEDS[self.act]


@dataclass(frozen=True, slots=True)
class Matched:
    """A rule with the values in the path of one request."""

    rule: Rule
    values: dict[str, str]
    target: Target

    @property
    def path(self) -> str:
        """The path for Discord, put together from the matched values."""
        return self.rule.template.path(self.values)


class Rules:
    """All rules."""

    def __init__(self, rows: Iterator[Rule]) -> None:
        self._rules: dict[tuple[str, int], list[Rule]] = defaultdict(list)
        self.all: tuple[Rule, ...] = tuple(rows)
        # Literal parts first: `/messages/@original` is no message's id.
        for rule in sorted(self.all, key=lambda rule: len(rule.template.parameters)):
            self._rules[rule.method, len(rule.template.parts)].append(rule)

    @classmethod
    def load(cls) -> Rules:
        """Read the table of this package."""
        text = (files(__package__) / "rules.tsv").read_text(encoding="utf-8")
        return cls(_row(line) for line in text.splitlines() if line and not line.startswith("#"))

    def match(self, method: str, target: Target) -> Matched:
        """Return the rule for a request. Raises `Refusal` when there is none."""
        for rule in self._rules.get((method, len(target.segments)), ()):
            values = rule.template.match(target.segments)
            if values is not None:
                return Matched(rule, values, target)
        raise unknown_route()


def _row(line: str) -> Rule:
    method, path, decision, act, moderates, note, operation = line.split("\t")
    return Rule(
        method,
        Template.of(path),
        _one_of(decision, Decision),  # type: ignore[arg-type]
        _one_of(act, Act),  # type: ignore[arg-type]
        frozenset(filter(None, moderates.split(","))),
        note,
        operation,
    )


def _one_of(word: str, literal: object) -> str:
    if word not in get_args(literal):
        raise ValueError(f"`{word}` is none of {get_args(literal)}")
    return word
