"""What a run will cost, before it is started: rows, tokens, FLOPs, GPU time and disk of every stage, from a sample of its data.

`stages` plans one stage of each kind (a generation, a training), whatever the flow, and `games` a benchmark;
`self_training`, `baselines` and `adapting` put them together as their flows do; `sample` and `sizes` measure what they
need; `show` prints, `compare` holds a plan against what became of it.
"""
