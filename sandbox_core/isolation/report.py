"""What a proof of isolation has found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .attacks import Tried, Verdict


@dataclass(frozen=True, slots=True)
class Section:
    """The attacks on one server, or from a worker's `SandboxContext`."""

    title: str
    where: str
    """Hosts with their ports; "" for no single server."""
    tried: tuple[Tried, ...] = ()
    away: str = ""
    """Why not everything was tried: the server does not answer."""

    def count(self, verdict: Verdict, group: str | None = None) -> int:
        """Return how many attacks have come to this."""
        return sum(each.verdict is verdict for each in self.of(group))

    def of(self, group: str | None) -> Iterator[Tried]:
        """Yield the attacks of a group, or all."""
        return (each for each in self.tried if group in {None, each.group})

    @property
    def groups(self) -> list[str]:
        """The groups in their order."""
        return list(dict.fromkeys(each.group for each in self.tried))


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a proof."""

    enforced: bool
    """False means that sandboxes keep apart by convention, and nothing was tried."""
    sections: tuple[Section, ...] = ()
    left: tuple[str, ...] = ()
    """The throw-away sandboxes that could not be removed; the bot's cleanup removes them."""
    seconds: float = 0.0

    def count(self, verdict: Verdict) -> int:
        """Return how many attacks have come to this."""
        return sum(section.count(verdict) for section in self.sections)

    @property
    def tried(self) -> int:
        """The attacks that must be denied, and were tried; what may go through is not among them."""
        return self.denied + self.count(Verdict.FAILED)

    @property
    def denied(self) -> int:
        """How many of them were."""
        return self.count(Verdict.DENIED)

    @property
    def away(self) -> tuple[Section, ...]:
        """The sections whose server did not answer."""
        return tuple(section for section in self.sections if section.away)

    @property
    def failed(self) -> list[tuple[Section, Tried]]:
        """The attacks that were not denied."""
        return [(section, each) for section, each in self._every() if each.verdict is Verdict.FAILED]

    @property
    def possible(self) -> dict[tuple[str, str], list[str]]:
        """What remains possible, by the section's title and the reason."""
        found: dict[tuple[str, str], list[str]] = {}
        for section, each in self._every():
            if each.verdict is Verdict.POSSIBLE:
                found.setdefault((section.title, each.reason), []).append(each.what)
        return found

    @property
    def proven(self) -> bool:
        """Whether everything was tried, and denied."""
        return self.enforced and self.denied > 0 and not self.failed and not self.away

    def _every(self) -> Iterator[tuple[Section, Tried]]:
        return ((section, each) for section in self.sections for each in section.tried)


def verdict(report: Report) -> tuple[str, str]:
    """Return the result in two words or three, and a sentence that goes with it."""
    if not report.enforced:
        return (
            "Nothing is enforced",
            "Sandboxes keep apart by convention (SANDBOX_ISOLATION), and nothing was tried.",
        )
    if report.failed:
        return "Not isolated", f"{len(report.failed)} of {report.tried} attacks were not denied."
    if report.away:
        places = " and ".join(
            f"{each.title} at {each.where}" if each.where else each.title for each in report.away
        )
        return "Not proven", f"{places} did not answer."
    return "Isolated", f"All {report.denied} attacks were denied, in {report.seconds:.1f} s."


def verdict_text(report: Report) -> str:
    """Return the result on one line."""
    return ": ".join(verdict(report))
