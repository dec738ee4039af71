"""How the small reasoner that ships is made: its problems, its texts, its tokenizer, its training and its evaluation.

Beside the package, not in it: no running service needs it.
"""
