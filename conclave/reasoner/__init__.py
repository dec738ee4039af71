"""The small reasoner that ships: its problems, its texts, its tokenizer, its training and its evaluation."""
