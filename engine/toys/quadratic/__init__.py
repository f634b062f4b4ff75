"""Bilinear layers: worlds, closed forms, training, figures."""
