"""`python -m polymodal`: the command line."""

from polymodal.commands.cli import main

main()
