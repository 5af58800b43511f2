"""Each lock names everything that is installed, so that nothing has to be looked up on the day."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.packaging.lock import ROOT, read_lock, roots, unmet

LOCKS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "requirements.lock": (("embedded",), ("build",)),
    "requirements-dev.lock": (("embedded", "otel"), ("dev",)),
    "deploy/requirements.lock": ((), ()),
}
"""Each with the extras and dependency groups that it is for."""

# The first release of each Python, Debian 12's, and for 3.11 one after the change that its markers know.
_PYTHONS = ("3.11.0", "3.11.2", "3.11.9", "3.12.0", "3.13.0", "3.14.0")
_SYSTEMS = {
    "Linux on x86": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "Linux on ARM": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
    "macOS": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}


def _environment(python: str, system: str) -> dict[str, str]:
    """What markers are judged by there (the version specifiers' environment markers)."""
    return {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_version": "",
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        **_SYSTEMS[system],
    }


@pytest.mark.parametrize("system", _SYSTEMS)
@pytest.mark.parametrize("python", _PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_met_and_nothing_else_is_locked(name: str, python: str, system: str) -> None:
    extras, groups = LOCKS[name]
    lock, environment = read_lock(ROOT / name), _environment(python, system)
    missing, needed = unmet(lock, roots(extras, groups), environment)
    assert missing == []
    assert {each.name for each in lock.values() if each.on(environment)} == needed


def test_a_requirement_by_an_extra_is_looked_at() -> None:
    """The kind that was missing once: pytest-cov needs coverage with its extra toml."""
    lock = read_lock(ROOT / "requirements-dev.lock")
    del lock["coverage"]
    missing, _ = unmet(lock, roots(groups=("dev",)), _environment("3.11.0", "macOS"))
    assert [line for line in missing if line.startswith("pytest-cov needs coverage[toml]")]


@pytest.mark.parametrize("name", [*LOCKS, "deploy/installer.lock"])
def test_a_lock_has_hashes_and_no_addresses(name: str) -> None:
    lock = read_lock(ROOT / name)
    assert lock
    assert all(each.hashes for each in lock.values())
    assert re.search(r"://|^-", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE) is None


def test_the_locks_agree() -> None:
    everything = read_lock(ROOT / "requirements-dev.lock")
    for name in LOCKS:
        for locked in read_lock(ROOT / name).values():
            assert everything[locked.name].version == locked.version, f"{name}: {locked.name}"
