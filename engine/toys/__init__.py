"""Toy models with known answers, one file each."""
