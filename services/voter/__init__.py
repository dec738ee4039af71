"""Voter: the paths of a step become a verdict, or the next wave of samples."""
