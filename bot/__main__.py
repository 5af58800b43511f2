"""`python -m bot` is `sandboxctl`."""

from .cli import main

main()
