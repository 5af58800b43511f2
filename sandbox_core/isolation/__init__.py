"""The proof that the servers keep sandboxes apart: `sandboxctl doctor --isolation`, and the owner's button.

`attacks` says what an attack is, `postgres_attacks`, `redis_attacks` and `nats_attacks` have them, `on_…` try
them, and `proof` puts all together. The tests try these rows and more.
"""

from .attacks import Tried, Verdict
from .proof import prove
from .report import Report, Section, verdict, verdict_text

__all__ = ["Report", "Section", "Tried", "Verdict", "prove", "verdict", "verdict_text"]
