"""How much a stack carries, and how long an answer takes, found by playing it with what its parts were measured to cost. Pure.

costs       what is measured and what is asked: CPU of each part, processes, partitions, an engine
machine     cores that all who have work share alike, and a clock that jumps
pipeline    the stages between a request and its answer; whatever waits for a lane shares its next transaction
prediction  what a stack carries, what keeps it from more, and the percentiles at a rate
"""
