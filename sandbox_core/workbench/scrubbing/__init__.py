"""Takes out of events what nobody else may see: secrets always, and people when a recording is passed on."""

from __future__ import annotations

from .lines import scrub_lines
from .tokens import without_tokens

__all__ = ["scrub_lines", "without_tokens"]
