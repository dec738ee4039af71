"""For whoever writes a service, a strategy or a rule: event makers, simulated lanes, the pipeline as processes.

Nothing of the package outside this folder imports it, and no service needs it.
"""
