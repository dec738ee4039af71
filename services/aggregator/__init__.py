"""Aggregator: the verdicts of a plan's steps become the answer, or release the steps that waited for them."""
