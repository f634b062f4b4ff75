"""Sparse dictionaries: the neutral form, architectures, training, metrics."""
