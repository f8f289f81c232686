"""The training process: examples → token ids → TRL's trainers → a plain Hugging Face folder.

``python -m tasks.training JOB.json`` is what `tasks.train` starts. It claims the GPUs and encodes the examples; the
training itself runs there or, on several GPUs, in one process per GPU (`tasks.training.rank`).
"""
