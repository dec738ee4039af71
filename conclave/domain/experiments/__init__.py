"""Experiments: who is assigned to which arm, what is learned from it, and how the shares of the arms follow. Pure.

Read in this order: `shares.py`, `assignment.py`, `evidence.py`, `posterior.py`, `guarding.py`, `reweighting.py`, `verification.py`.
"""
