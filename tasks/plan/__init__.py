"""What a run will cost, before it starts: rows, tokens, FLOPs, GPU time and disk of every stage, from a sample of its data.

`stages` plans one stage of each kind (generation, training) for any flow, and `games` a benchmark; `self_training`,
`baselines` and `adapting` combine them as their flows do; `sample` and `sizes` measure the inputs; `show` prints a plan,
and `compare` compares it with the actual run.
"""
