"""What is typed: the command line, and what each command prints or writes.

No run calls anything here: a command reads its words, asks a room below, and shows the answer.
"""
