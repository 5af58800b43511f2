"""SQL files that new sandboxes begin with: found, read, made fit for one schema, and run."""

from .containing import refuse_reaching_out
from .files import NONE, Template, Templates, template_after
from .running import run

__all__ = ("NONE", "Template", "Templates", "refuse_reaching_out", "run", "template_after")
