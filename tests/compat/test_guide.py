"""What the guide says of each library is what was tried."""

from __future__ import annotations

import pytest

from .libraries import LIBRARIES, ROOT, Library


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_the_guide_has_it(library: Library) -> None:
    row = f"| {library.name} | {library.version()} | {library.refused} |\n"
    assert row in (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
