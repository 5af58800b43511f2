"""Reads the project's Markdown: sections, fenced blocks, headings' anchors and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"(?<!\\)\]\(([^()\s]+)\)")
_INLINE_CODE = re.compile(r"`[^`\n]+`")


@dataclass(frozen=True)
class Block:
    """One fenced block; `section` is the `##` heading above it, "" before the first."""

    page: str
    section: str
    line: int
    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page: those at the top and those in `docs/`."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def name_of(page: Path) -> str:
    """The page as the tests name it: its path from the top."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks in their order, without the indent of a list."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        sections = re.findall(r"^## +(.+?)\s*$", without_fences(before), re.MULTILINE)
        indent = len(match["indent"])
        body = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
        section = sections[-1] if sections else ""
        found.append(Block(name_of(page), section, before.count("\n") + 1, match["language"], body))
    return found


def without_fences(text: str) -> str:
    """The text without its fenced blocks: a comment in a script is no heading."""
    return _FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the page's headings."""
    seen: dict[str, int] = {}
    found: set[str] = set()
    for heading in _HEADING.findall(without_fences(page.read_text(encoding="utf-8"))):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = seen.get(slug, 0)
        seen[slug] = count + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in the page's sentences and tables."""
    text = without_fences(page.read_text(encoding="utf-8"))
    return [span.strip("`").replace("\\|", "|") for span in _INLINE_CODE.findall(text)]


def links(page: Path) -> Iterator[str]:
    """Every link's target, those of pictures too."""
    yield from _LINK.findall(_INLINE_CODE.sub("", without_fences(page.read_text(encoding="utf-8"))))
