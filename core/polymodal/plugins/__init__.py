"""How a component is found and read: hooks, entry points, and options read from source text.

No component is called here, and none is imported before a config names it.
"""
