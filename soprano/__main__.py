"""`python -m soprano`."""

from soprano.cli import main

main()
