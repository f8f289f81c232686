"""What every step stands on: a run, its stages, and what is done for rows of a stage."""
