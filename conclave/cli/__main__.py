"""`python -m conclave.cli`."""

from conclave.cli import main

main()
