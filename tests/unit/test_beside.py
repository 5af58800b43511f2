"""What is measured beside this checkout: found with its packages, or refused with a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import beside
from tests.e2e.programs import program
from tests.forked import ROOT


def test_packages_are_found_where_a_checkout_has_them(tmp_path: Path) -> None:
    assert beside._roots(ROOT) == (ROOT, ROOT / "bot", ROOT / "cogs")
    older = '[tool.hatch.build.targets.wheel]\npackages = ["bot", "cogs", "sandbox_core"]\n'
    (tmp_path / "pyproject.toml").write_text(older)
    assert beside._roots(tmp_path) == (tmp_path,)


@pytest.mark.parametrize("content", [None, "", "no TOML ["])
def test_what_is_no_checkout_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(beside.OtherError, match="is no checkout"):
        beside._roots(tmp_path)


def test_an_environment_of_its_own_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(beside.OtherError, match="make setup"):
        beside._python(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["beside"], "beside needs --checkout PATH or --revision REV."),
        (["nothing"], "Unknown: nothing."),
        (["beside", "--revision", "no-such-revision"], "no-such-revision"),
        (["beside", "--checkout", "/no/such/place"], "/no/such/place"),
    ],
)
async def test_mistakes_are_sentences(arguments: list[str], said: str) -> None:
    async with program("benchmarks", *arguments, directory=ROOT, PATH=os.environ["PATH"]) as running:
        assert await running.exit_code() == 2
    assert said in running.errors
    assert "Traceback" not in running.errors
