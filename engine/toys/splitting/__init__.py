"""Feature splitting: planted families, the learned network, figures."""
