"""``gram-r2 serve``: a judge as the reward of an RLHF trainer, over HTTP."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from flows.cli.errors import InputError, ServerError, command
from prompts.catalog import JUDGE_PROMPTS, JudgePromptName
from tasks.settings import GenerationSettings
from tasks.settings.wording import in_one_line

_JUDGE, _SERVERS, _GROUPS = "The judge", "Servers", "Groups and limits"


@command
def serve(
    judge: Annotated[str, typer.Argument(metavar="JUDGE", help="Folder or hub name of the judge, such as RUN/final.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8100,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for all, then set GRAM_R2_API_KEY.")
    ] = "127.0.0.1",
    group: Annotated[
        Literal["reference", "greedy", "circular", "circular-twice", "knockout", "all-pairs", "bradley-terry", "pivot"],
        typer.Option(
            metavar="STRATEGY",
            help="How a group's responses are compared, unless a request says it: reference, greedy, circular, "
            "circular-twice, knockout, all-pairs, bradley-terry or pivot.",
            rich_help_panel=_GROUPS,
        ),
    ] = "circular-twice",
    deadline: Annotated[
        float,
        typer.Option(
            min=1,
            max=3600,
            help="Seconds until what has no verdict is null. For more than 100, raise the trainer's limit, too: "
            "GRAM_R2_DEADLINE_S for trainers.py.",
            rich_help_panel=_GROUPS,
        ),
    ] = 100.0,
    references: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Rows with prompt and reference, such as the policy's greedy response: what a response is "
            "compared with if its request brings no reference.",
            rich_help_panel=_GROUPS,
        ),
    ] = None,
    length_slope: Annotated[
        float,
        typer.Option(
            min=-1,
            max=1,
            help="Reward taken off for every doubling of a response's length beyond its group's mean; "
            "/metrics says what the length is worth now.",
            rich_help_panel=_GROUPS,
        ),
    ] = 0.0,
    url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A vLLM server that has the judge (http://host:8000, or …#MODEL). Repeat for several. "
            "Default: servers are started here.",
            rich_help_panel=_SERVERS,
        ),
    ] = None,
    servers: Annotated[
        int | None,
        typer.Option(min=1, help="How many to start. Default: one for each GPU.", rich_help_panel=_SERVERS),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs for each server.", rich_help_panel=_SERVERS)] = 1,
    gpu_memory_share: Annotated[
        float, typer.Option(help="Share of a GPU's memory for a server.", rich_help_panel=_SERVERS)
    ] = 0.9,
    votes: Annotated[
        int, typer.Option(min=1, max=64, help="Sampled judgments in each order.", rich_help_panel=_JUDGE)
    ] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="Above 0 for several votes.", rich_help_panel=_JUDGE)] = 0.0,
    prompt: Annotated[
        JudgePromptName | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(JUDGE_PROMPTS)}. Default: that of the judge's training.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum reply tokens. Default: as trained, or 1024.", rich_help_panel=_JUDGE),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of prompt plus reply. Default: as trained, or 4096.", rich_help_panel=_JUDGE),
    ] = None,
    overlong: Annotated[
        Literal["drop", "truncate"],
        typer.Option(help="What to do with a prompt that does not fit.", rich_help_panel=_JUDGE),
    ] = "drop",
    seed: Annotated[
        int, typer.Option(help="Seed of sampled judgments and random matches.", rich_help_panel=_JUDGE)
    ] = 0,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"] | None,
        typer.Option(help="Default: as trained, or auto.", rich_help_panel=_JUDGE),
    ] = None,
) -> None:
    """Serve a judge as the reward of an RLHF trainer: OpenRLHF, verl, TRL, slime, ms-swift, NeMo-Gym.

    Starts vLLM's servers on this machine, or uses those at the URLs, and
    answers by group at /v1/rewards, and as trainers call at /get_reward,
    /slime and /compare. With GRAM_R2_API_KEY set, callers must send it as
    their bearer token. Stop it with Ctrl-C.

    Examples:
      gram-r2 serve runs/demo/final
      gram-r2 serve runs/mine/final --group all-pairs --votes 4 \\
        --temperature 1
      gram-r2 serve runs/mine/final --url http://gpu-1:8000 \\
        --url http://gpu-2:8000
    """  # fmt: skip
    from flows.cli.follow import Interrupted, signals_as_interrupts
    from tasks.machine.child import ChildError
    from tasks.model.endpoint import is_endpoint
    from tasks.rank.opening import find_judge
    from tasks.reward.references import read_references
    from tasks.reward.servers import ServerError as VLLMServerError
    from tasks.reward.serving import ServeSettings
    from tasks.reward.serving import serve as run

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        generation = GenerationSettings(gpu_memory_share=gpu_memory_share, tensor_parallel=tensor_parallel)
        if is_endpoint(judge):
            raise InputError(f"{judge} is a URL: give the judge's folder or hub name, and the URL as --url {judge}")
        known = find_judge(judge, prompt, max_tokens, context, overlong, votes, temperature, seed)
        known_references = read_references(references) if references else {}
        if group == "reference" and not known_references:
            raise InputError(
                "--group reference needs --references FILE; a request with a reference of its own needs neither"
            )
        settings = ServeSettings(
            known,
            tuple(url or ()),
            servers,
            group,
            deadline,
            length_slope,
            known_references,
            host,
            port,
            generation,
            dtype,
        )
        with signals_as_interrupts(), contextlib.suppress(KeyboardInterrupt, Interrupted):
            run(settings, say)
    except ValidationError as error:
        raise InputError(in_one_line(GenerationSettings, error)) from error
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from error
    except (ChildError, VLLMServerError) as error:
        raise ServerError(str(error)) from error
