"""What is in a data set, before a run reads it: ``gram-r2 describe``."""
