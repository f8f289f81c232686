"""The flows' parameters, the recipes on disk, and the reference of recipe keys."""
