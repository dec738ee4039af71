"""Votes that learn: what a path's own figures turned out to be worth, as weights of its votes. Pure.

Read in this order: `labels.py`, `calibrating.py`, `weights.py`, `judging.py`, `abstaining.py`.
"""
