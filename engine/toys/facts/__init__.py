"""Memorised facts: ensembles, quantisation, figures."""
