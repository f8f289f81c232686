"""The training process: examples → token ids → TRL's trainers → a plain Hugging Face folder.

``python -m tasks.training JOB.json`` is what `tasks.train` starts. It encodes the examples and claims the GPUs; the
training itself runs there or, on several GPUs, in one process per GPU (`tasks.training.rank`).
"""
