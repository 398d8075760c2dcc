"""`python -m polymodal`: the command line."""

from polymodal.cli import main

main()
