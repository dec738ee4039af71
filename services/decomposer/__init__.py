"""Decomposer: a request becomes a plan, and the first samples of its first steps."""
