"""The basis of every step: a run, its stages, and generation for a stage's rows."""
