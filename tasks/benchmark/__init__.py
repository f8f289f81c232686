"""Benchmarks: a judge plays games (`play`), which are read back (`games`), scored (`score`) and compared (`compare`).

A game is one judgment of two responses, shown in one order.

``gram-r2 benchmark score games.jsonl --benchmark rm-bench --data PATH`` scores the games of any judge.
"""
