"""Using a judge: compare two responses, vote on them, find the best of n, or rank them all. No Prefect.

::

    with open_judge("runs/demo/final") as judge:
        judge.compare("Why is the sky blue?", "Rayleigh scattering.", "It reflects the sea.").winner  # 0: the first
        judge.best_of_n("Why is the sky blue?", responses).index
        judge.rank("Why is the sky blue?", responses).order

Each method has a variant for many prompts at once (``compare_many``, …), whose comparisons go to the engine in one batch
per round. Every pair is shown in both orders by default. Ties, cycles and replies without a verdict are reported in the
result, never hidden; a null verdict is never a win.

``gram-r2 rank`` does the same for files; see `tasks.rank.files`.
"""

from tasks.rank.judge import Judge
from tasks.rank.opening import open_judge, prompt_of
from tasks.rank.results import Comparison, Judged
from tasks.rank.tournaments import Best, Ranking

__all__ = ["Best", "Comparison", "Judge", "Judged", "Ranking", "open_judge", "prompt_of"]
