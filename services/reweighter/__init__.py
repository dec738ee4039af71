"""Reweighter: what the record holds of an experiment becomes the shares of its arms."""
