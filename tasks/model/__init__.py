"""Running language models: engines, prompts as tokens, and a judge's requests and answers."""
