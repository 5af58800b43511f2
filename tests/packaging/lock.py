"""Reads the locks, and what the locked distributions say that they need."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# What some distributions need cannot be read where they are not installed. These are for a Python or a system
# of their own; their metadata names no requirement.
_NEED_NOTHING = {"async-timeout", "audioop-lts", "colorama"}


@dataclass(frozen=True, slots=True)
class Locked:
    """One line of a lock: a distribution, its version, and where it is installed."""

    name: str
    version: str
    marker: Marker | None
    hashes: int

    def on(self, environment: Mapping[str, str]) -> bool:
        """True when it is installed there."""
        return self.marker is None or self.marker.evaluate(dict(environment))


def read_lock(path: Path) -> dict[str, Locked]:
    """The locked distributions by their canonical names."""
    found = {}
    for entry in path.read_text(encoding="utf-8").replace(" \\\n", " ").splitlines():
        if entry.startswith("#"):
            continue
        words, *hashes = entry.split("--hash=")
        requirement = Requirement(words)
        (pinned,) = requirement.specifier
        assert pinned.operator == "==", entry
        name = canonicalize_name(requirement.name)
        assert name not in found, entry
        found[name] = Locked(name, pinned.version, requirement.marker, len(hashes))
    return found


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def roots(extras: Iterable[str] = (), groups: Iterable[str] = ()) -> list[Requirement]:
    """What the project itself needs, with these extras and dependency groups."""
    written = project()
    needed = list(written["project"]["dependencies"])
    for extra in extras:
        needed += written["project"]["optional-dependencies"][extra]
    for group in groups:
        needed += _group(written["dependency-groups"], group)
    return [Requirement(each) for each in needed]


def _group(groups: Mapping[str, list[Any]], name: str) -> Iterator[str]:
    for entry in groups[name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _group(groups, entry["include-group"])


def unmet(
    lock: Mapping[str, Locked], needed: Iterable[Requirement], environment: Mapping[str, str]
) -> tuple[list[str], set[str]]:
    """Every requirement that the lock does not meet there, and the names of all that were needed."""
    waiting = [(requirement, "the project") for requirement in needed]
    seen: set[tuple[str, str]] = set()
    missing: list[str] = []
    while waiting:
        requirement, by = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({**environment, "extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        locked = lock.get(name)
        if locked is None or not locked.on(environment):
            missing.append(f"{by} needs {requirement}: not locked")
            continue
        if not requirement.specifier.contains(locked.version, prereleases=True):
            missing.append(f"{by} needs {requirement}: {locked.version} is locked")
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(each, name) for each in _needs(locked, extra, environment)]
    return missing, {name for name, _ in seen}


def _needs(locked: Locked, extra: str, environment: Mapping[str, str]) -> Iterator[Requirement]:
    """What this distribution requires for `extra`; for "" what it requires in any case."""
    try:
        found = metadata.distribution(locked.name)
    except metadata.PackageNotFoundError:
        assert locked.name in _NEED_NOTHING, f"{locked.name} is locked and not installed"
        return
    assert found.version == locked.version, f"{locked.name} {found.version} is installed: make setup"
    for text in found.requires or ():
        requirement = Requirement(text)
        marker, requirement.marker = requirement.marker, None
        if marker is None:
            if extra == "":
                yield requirement
        elif marker.evaluate({**environment, "extra": extra}):
            yield requirement
