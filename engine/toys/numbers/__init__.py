"""Sums of numbers that are one token each: the network, its training and its figures."""
