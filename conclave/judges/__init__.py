"""Judges of whether two answers are the same: slow, killable, and asked off the event loop."""
