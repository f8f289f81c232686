"""What every flow does around its algorithm."""
