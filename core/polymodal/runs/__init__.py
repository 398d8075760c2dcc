"""From a config to a model, and from a run's directory back to one.

No step is made here; `training` does that.
"""
