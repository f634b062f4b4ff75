"""Out-of-context learning: data, ensembles, figures."""
