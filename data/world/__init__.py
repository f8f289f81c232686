"""The small synthetic world "taste" behind the demo and the tests: its pairs, its tokenizer and its two base models."""
