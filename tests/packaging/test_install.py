"""The Makefile installs what is locked, whatever the package index offers that day.

The index is a folder, with distributions that are made here: the newest releases are newer than the lock, and
one distribution asks for another by an extra, for which pip's resolver once took the newest. The project is a
small one with this Makefile.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.packaging.lock import ROOT

# Debian 12's Python brings the oldest pip that is supported, 23.0.1, with its package python3-venv.
_PYTHONS = {"this Python": sys.executable, "Debian's Python": "/usr/bin/python3"}

_BACKEND = '''
"""Builds nothing: an installed project without code."""

import pathlib
import zipfile

_NAME = "discord_server_sandboxes-1.0"


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    path = pathlib.Path(wheel_directory, f"{_NAME}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: discord-server-sandboxes\\nVersion: 1.0\\n",
            "WHEEL": "Wheel-Version: 1.0\\nTag: py3-none-any\\nRoot-Is-Purelib: true\\n",
            "RECORD": "",
        }.items():
            wheel.writestr(f"{_NAME}.dist-info/{name}", text)
    return path.name


build_wheel = build_editable
'''


def _release(folder: Path, name: str, version: str, needs: str = "") -> str:
    """Put a wheel into the index; returns its line in a lock."""
    info = f"{name}-{version}.dist-info"
    extras = f"Provides-Extra: {name}x\n"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{extras}"
    if needs:
        metadata += f"Requires-Dist: {needs}\n"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    wheel = folder / name / f"{name}-{version}-py3-none-any.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def _index(folder: Path) -> str:
    """Pages that list each distribution's wheels (PEP 503); returns the address."""
    for package in folder.iterdir():
        links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in sorted(package.glob("*.whl")))
        (package / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return folder.as_uri()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with this Makefile and locks of its own."""
    checkout = tmp_path / "checkout"
    (checkout / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "backend.py").write_text(_BACKEND)
    (checkout / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "discord-server-sandboxes"\nversion = "1.0"\n'
    )
    return checkout


@pytest.mark.parametrize("which", _PYTHONS)
def test_newer_releases_change_nothing(checkout: Path, tmp_path: Path, which: str) -> None:
    python = _PYTHONS[which]
    if not _can_make_environments(python):
        reason = f"{which} is not there with its module venv (Debian: python3-venv)"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    releases = tmp_path / "index"
    runs = _release(releases, "lantern", "1.0", needs="wick[wickx]>=1.0") + _release(releases, "wick", "1.0")
    tests = _release(releases, "probe", "1.0", needs="lantern>=1.0")
    for name in ("lantern", "wick", "probe"):
        _release(releases, name, "2.0", needs="stranger>=1.0")
    _release(releases, "stranger", "1.0")
    (checkout / "requirements.lock").write_text(runs)
    # Of an index that pip is told of uv knows nothing: pip installs.
    (checkout / "deploy" / "installer.lock").write_text("")
    environment = _told_of(releases)

    _make(checkout, python, environment, ".venv/.installed-to-run")
    assert _installed(checkout) == {"lantern": "1.0", "wick": "1.0", "discord-server-sandboxes": "1.0"}

    # One that was changed after it was locked is refused.
    (checkout / "requirements-dev.lock").write_text(
        runs + tests.replace("sha256:", "sha256:0000")[:-5] + "\n"
    )
    refused = _run_make(checkout, python, environment, "setup")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    (checkout / "requirements-dev.lock").write_text(runs + tests)
    _make(checkout, python, environment, "setup")
    assert _installed(checkout) == {
        "lantern": "1.0",
        "wick": "1.0",
        "probe": "1.0",
        "discord-server-sandboxes": "1.0",
    }


def _told_of(releases: Path) -> dict[str, str]:
    return {"PIP_INDEX_URL": _index(releases), "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull}


def _can_make_environments(python: str) -> bool:
    asked = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))"
    return shutil.which(python) is not None and (
        subprocess.run([python, "-c", asked], check=False, capture_output=True).returncode == 0
    )


def _run_make(
    checkout: Path, python: str, environment: dict[str, str], target: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", target, f"PYTHON={python}", "VENV=.venv"],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "HOME": str(checkout), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _make(checkout: Path, python: str, environment: dict[str, str], target: str) -> None:
    done = _run_make(checkout, python, environment, target)
    assert done.returncode == 0, done.stdout + done.stderr


def _installed(checkout: Path) -> dict[str, str]:
    """Names and versions of what is installed there besides pip."""
    (packages,) = (checkout / ".venv" / "lib").glob("python*/site-packages")
    found = {each.name: each.version for each in metadata.distributions(path=[str(packages)])}
    return {name: version for name, version in found.items() if name not in {"pip", "setuptools"}}
