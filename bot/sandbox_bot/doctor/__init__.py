"""The checks of `doctor`: would a create, a register, an event and a destroy work?

Each check asks for an ability, or tries it and undoes it. The checks change nothing.
"""

from .findings import Finding, State
from .servers import check_servers

__all__ = ["Finding", "State", "check_servers"]
