"""The basis of every step: a run, its stages, and how a stage generates for its rows."""
