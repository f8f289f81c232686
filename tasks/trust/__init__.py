"""How far a run's labels and proofs can be trusted, and what in the run shows it."""
