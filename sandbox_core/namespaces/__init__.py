"""A sandbox's parts in the stores: one small protocol, one class per store."""

from .base import Namespace, PartHealth, PartState

__all__ = ["Namespace", "PartHealth", "PartState"]
