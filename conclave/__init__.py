"""Conclave: a stream of questions in, voted and traceable answers out."""
