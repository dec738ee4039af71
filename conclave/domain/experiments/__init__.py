"""Experiments: who is assigned to which arm, what is learned from it, and how the shares of the arms follow. Pure.

Read in this order: `shares.py`, `assignment.py`, `evidence.py`, `posterior.py`, `states.py`, `pooling.py`, `judging.py`,
`reweighting.py`, `verification.py`.
"""
