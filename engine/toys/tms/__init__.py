"""Toy models of superposition: the autoencoders, their data, measures and theory."""
