"""``gram-r2 rank``: a file of prompts and responses through a judge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from flows.cli.errors import FAILED, InputError, command
from prompts.catalog import JUDGE_PROMPTS, JudgePromptName
from tasks.settings import GenerationSettings
from tasks.settings.wording import in_one_line


@command
def rank(
    task: Annotated[
        Literal["compare", "best-of-n", "rank"],
        typer.Argument(
            metavar="TASK",
            help="compare: which of two responses is better. best-of-n: the best response of each row. rank: all "
            "responses of each row, best first.",
        ),
    ],
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Rows with prompt and responses (.jsonl, .json, .parquet, .gz).")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write the results, as .jsonl.")],
    judge: Annotated[str, typer.Option(help="Folder, hub name, or endpoint URL (…/v1#MODEL) of the judge.")],
    prompt: Annotated[
        JudgePromptName | None,
        typer.Option(metavar="NAME", help=f"{', '.join(JUDGE_PROMPTS)}. Default: that of the judge's training."),
    ] = None,
    method: Annotated[
        Literal["knockout", "linear", "round-robin", "repeated-best"] | None,
        typer.Option(
            metavar="NAME",
            help="best-of-n: knockout (default) or linear. rank: round-robin (default) or repeated-best.",
        ),
    ] = None,
    votes: Annotated[int, typer.Option(min=1, help="Sampled judgments in each order.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="Above 0 for several votes.")] = 0.0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Maximum reply tokens. Default: as trained, or 1024.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of prompt plus reply. Default: as trained, or 4096.")
    ] = None,
    overlong: Annotated[
        Literal["drop", "truncate"], typer.Option(help="What to do with a prompt that does not fit.")
    ] = "drop",
    one_order: Annotated[bool, typer.Option("--one-order", help="Show each pair in one order only.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of sampled judgments.")] = 0,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"] | None, typer.Option(help="Default: as trained, or auto.")
    ] = None,
    gpu_memory_share: Annotated[float, typer.Option(help="Share of a GPU's memory for the engine.")] = 0.9,
    at_once: Annotated[int, typer.Option(min=1, help="Rows whose comparisons go to the engine together.")] = 256,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")] = False,
) -> None:
    """Judge the responses in a file: compare two, find the best of n, or rank them all.

    Needs a judge: one trained here (RUN/final), a released one, or an
    endpoint; for a checkpoint a GPU, or for small ones a CPU. Started again,
    the command keeps the rows in OUT and goes on, and retries failed rows.
    Exits with 1 if rows or the judge failed.

    An input row: {"prompt": "Why is the sky blue?", "responses": ["…", "…"]};
    an id, chat messages as prompt, and messages as responses are read too.

    Examples:
      gram-r2 rank best-of-n prompts.jsonl best.jsonl --judge runs/demo/final
      gram-r2 rank rank prompts.jsonl ranked.jsonl --judge runs/demo/final \\
        --votes 4 --temperature 1
      gram-r2 rank compare pairs.jsonl out.jsonl --judge http://host:8000/v1#m
    """
    from tasks.machine.child import ChildError
    from tasks.rank.files import RankSettings, judge_file

    try:
        generation = GenerationSettings(gpu_memory_share=gpu_memory_share)
        settings = RankSettings(
            task, judge, method, prompt, votes, temperature, max_tokens, context, overlong, one_order, seed, dtype,
            generation, at_once, progress=not quiet,
        )  # fmt: skip
        failed = judge_file(source, output, settings)
    except ValidationError as error:
        raise InputError(in_one_line(GenerationSettings, error)) from error
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from error
    except (ChildError, OSError, RuntimeError) as error:
        print(f"the judge failed; finished rows are kept: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from error
    if failed:
        raise typer.Exit(FAILED)
