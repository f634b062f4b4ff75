"""Modular addition: the network, its training, analysis and figures."""
