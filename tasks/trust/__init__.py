"""How far a run's labels, proofs and judges can be trusted, and where each of them comes from."""
