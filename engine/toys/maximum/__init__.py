"""Max of K: the transformer, its measures, proofs and figures."""
