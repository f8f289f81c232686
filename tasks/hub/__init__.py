"""A run's judge on the Hugging Face hub: which files are sent, what its model card says there, and the upload."""
