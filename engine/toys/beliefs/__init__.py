"""Belief states: hidden Markov processes, networks, simplices, figures."""
