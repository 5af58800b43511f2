"""`python -m sandbox_bot` is `sandboxctl`."""

from .cli import main

main()
