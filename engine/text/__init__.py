"""Corpora: references, reading, tokenising, and the story grammar with its known latent variables."""
