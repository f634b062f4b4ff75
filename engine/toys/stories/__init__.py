"""Story models: training, rules, scores, causes."""
