"""`python -m hydrometer`."""

from hydrometer.cli.main import main

main()
