"""Calls what is no part of a path: tools with an effect, each call once."""
