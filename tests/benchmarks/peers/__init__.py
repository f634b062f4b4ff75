"""Superscope and other dictionary-learning libraries side by side; they run in an environment of their own."""
