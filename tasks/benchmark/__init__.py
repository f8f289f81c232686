"""Benchmarks: a judge plays games (`play`), which are read back (`games`), scored (`score`) and compared (`compare`).

A game is one judgment of two responses, shown in one order.

``python -m tasks.benchmark score --benchmark rm-bench --data PATH --games games.jsonl`` scores the games of any judge.
"""
