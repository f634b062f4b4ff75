"""Universal AND: circuits, measures, figures."""
