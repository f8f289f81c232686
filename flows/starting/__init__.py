"""What `gram-r2 init` knows: reading files of unknown columns, and values that suit data, models and GPUs."""
