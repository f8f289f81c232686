"""``python -m tasks.describe``: what is in a data set, before a run reads it."""
