"""Names for JSON values, whose shape is Discord's and not ours."""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

JsonValue: TypeAlias = Any
"""Any JSON value."""
