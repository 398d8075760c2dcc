"""Benchmarks: each measures two ways of doing the same thing, alternating, in one process."""
