"""What `doctor` looks at: whether a create, a register, an event and a destroy would work.

Each ability is asked for, or tried and undone. Nothing is changed by looking.
"""

from .findings import Finding, State
from .servers import check_servers

__all__ = ["Finding", "State", "check_servers"]
