"""What may be written: the config's shape, how YAML is read, and every mistake named.

Nothing here imports torch, and nothing is built.
"""
