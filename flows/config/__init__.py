"""A flow's parameters, the recipes on disk, and the reference of their keys."""
