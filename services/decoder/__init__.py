"""The decoder: one sample in, one path out."""
