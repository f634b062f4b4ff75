"""Weekdays in words: the network and its figures."""
