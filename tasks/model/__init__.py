"""Language models in use: engines, prompts as tokens, and what a judge is asked and answers."""
