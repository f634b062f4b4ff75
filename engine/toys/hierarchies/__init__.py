"""Hierarchical concepts: trees, their data, tests and figures."""
