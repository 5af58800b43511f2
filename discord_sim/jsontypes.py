"""Types for JSON values, whose shape Discord defines."""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
"""A JSON object."""

JsonValue: TypeAlias = Any
"""Any JSON value."""
