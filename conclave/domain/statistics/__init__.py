"""Inference that stays true however often it is looked at, and while the data decide what is sampled next. Pure.

`betting.py`: evidence on means of outcomes from 0 to 1. `dealing.py`: was traffic dealt out as it was said to be?
`estimating.py`: what a policy is worth, from what another one served.
"""
