"""Plays the tour and draws its middle as `docs/tour.svg`: `python docs/record_tour.py`.

What is drawn is what the run printed, from the sandbox's creation to the events in it; a tour that fails
draws nothing. The picture is self-contained: no font or anything else is loaded from elsewhere.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "tour.svg"

_FIRST, _AFTER_LAST = "3 A developer makes a sandbox", "7 How is it doing?"
_COLUMNS = 100
_FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


def main() -> None:
    """Play, draw, and say where the picture is."""
    printed = _play()
    console = Console(record=True, file=io.StringIO(), width=_COLUMNS, force_terminal=True, highlight=False)
    console.print(Text("$ make run", style="bold"))
    console.print(Text("…", style="dim"))
    console.print(_middle(printed))
    console.print(Text("…", style="dim"))
    PICTURE.write_text(_self_contained(console.export_svg(title="make run", unique_id="tour")))
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)} is drawn.\n")


def _play() -> str:
    environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "KEEP"}}
    environment |= {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "COLUMNS": str(_COLUMNS)}
    tour = subprocess.run(
        [sys.executable, "-m", "sandbox_bot", "tour"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if tour.returncode != 0:
        raise SystemExit(f"The tour failed, so there is nothing to draw:\n{tour.stdout}")
    return tour.stdout


def _middle(printed: str) -> Text:
    lines = Text.from_ansi(printed).split()
    starts = [index for index, line in enumerate(lines) if line.plain.startswith(_FIRST)]
    ends = [index for index, line in enumerate(lines) if line.plain.startswith(_AFTER_LAST)]
    if not starts or not ends:
        raise SystemExit("The tour's steps are no longer those that this program draws.")
    return Text("\n").join(lines[starts[0] : ends[0]])


def _self_contained(svg: str) -> str:
    """Without the font that rich's pictures load from the network."""
    local = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    if "url(http" in local or "Fira Code, monospace" not in local:
        raise SystemExit("rich's pictures are no longer made as this program expects.")
    return local.replace("Fira Code, monospace", _FONTS)


if __name__ == "__main__":
    main()
