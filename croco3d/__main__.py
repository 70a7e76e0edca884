"""`python -m croco3d`."""

from .cli import main

main()
