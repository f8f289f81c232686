"""The `Engine` for real use: vLLM, in the calling process. One engine per process, never two.

Two engines in one process corrupted each other's memory when tried, and GPU memory is reliably freed only when the
process ends; hence `tasks.generation.worker` runs this in a child process with its own environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from tasks.model.device import engine_dtype, has_gpu
from tasks.model.engine import Answer, Completion, Failure, OnAnswer, Request, Requests
from tasks.settings import GenerationSettings, ModelSettings

_CPU_BATCH_TOKENS = 4096
_BEFORE = 8
"""How many tokens of the prompt a reply is decoded behind."""
_END = object()


class VLLMEngine:
    """A vLLM engine for one model."""

    def __init__(
        self,
        model: str,
        models: ModelSettings,
        generation: GenerationSettings,
        end_id: int,
        scoring: bool = False,
        by_label: bool = False,
        prefix_caching: bool = True,
    ) -> None:
        """Loads the model. `end_id` ends a completion.

        `scoring` says that texts will be scored, `by_label` that the probabilities of labels will be read: either has the head
        compute in float32.
        """
        gpu = has_gpu()
        from vllm import LLM

        self.end_id = end_id
        options: dict[str, Any] = {"tensor_parallel_size": generation.tensor_parallel}
        if gpu:
            options |= {
                "gpu_memory_utilization": generation.gpu_memory_share,
                "enforce_eager": generation.enforce_eager,
            }
        else:
            # Prefilling a prompt in chunks makes vLLM rewind its seeded generator, which the CPU's cannot do: the
            # engine dies with "CPU Generator does not use offset". So prompts are prefilled whole.
            whole = max(models.max_tokens, _CPU_BATCH_TOKENS)
            options |= {"enforce_eager": True, "enable_chunked_prefill": False, "max_num_batched_tokens": whole}
        cache_mib = generation.kv_cache_mib or (None if gpu else 256)
        if cache_mib is not None:
            options["kv_cache_memory_bytes"] = cache_mib << 20
        if generation.kv_cache_dtype != "auto":
            options["kv_cache_dtype"] = generation.kv_cache_dtype
        if generation.quantization is not None:
            options["quantization"] = generation.quantization
        dtype = engine_dtype(models.dtype, gpu)
        if dtype != "float32" and (scoring or by_label):
            options["hf_overrides"] = {"head_dtype": "float32"}
        self.llm = LLM(
            model=model,
            dtype=dtype,
            max_model_len=models.max_tokens,
            enable_prefix_caching=prefix_caching,
            trust_remote_code=bool(models.trust_remote_code),
            seed=0,  # used only by requests without a seed; every request that samples has one
            **{**options, **generation.engine},
        )
        self.tokenizer = self.llm.get_tokenizer()
        self.tokenizer.clean_up_tokenization_spaces = False  # replies are read as they were written
        # Twice as many completions as it can work on: the next ones are there when some finish.
        self.at_once = 2 * self.llm.llm_engine.vllm_config.scheduler_config.max_num_seqs

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        """See `Engine.generate`. A request that the engine does not return is a `Failure`, never an empty completion."""
        from vllm.exceptions import VLLMClientError

        engine, pulled, numbers = self.llm.llm_engine, iter(requests), count()
        waiting: dict[str, tuple[int, Request]] = {}
        over, held = False, 0
        while not over or waiting:
            while not over and held < self.at_once:
                request = next(pulled, _END)
                over = request is _END
                if not isinstance(request, Request):
                    break
                i = next(numbers)
                try:  # one by one: a request that the engine rejects must not fail the others
                    engine.add_request(str(i), *self._as_vllm(request))
                    waiting[str(i)] = (i, request)
                    held += request.sampling.n
                except (ValueError, VLLMClientError) as error:
                    on_answer(i, Failure("engine_refused", str(error)))
            for output in engine.step() if engine.has_unfinished_requests() else ():
                if output.finished:
                    i, request = waiting.pop(output.request_id)
                    held -= request.sampling.n
                    on_answer(i, self._answer(output, request))
            if not engine.has_unfinished_requests():
                lost, waiting, held = waiting, {}, 0
                for i, _ in lost.values():
                    on_answer(i, Failure("engine_lost_the_request"))

    def _as_vllm(self, request: Request) -> tuple[Any, Any]:
        """The prompt and the sampling parameters of a request."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        [prompt] = self.llm.renderer.render_cmpl([TokensPrompt(prompt_token_ids=list(request.prompt_ids))])
        # Replies are decoded at once when they are finished.
        how: dict[str, Any] = {"detokenize": False, "output_kind": RequestOutputKind.FINAL_ONLY}
        if request.score_from is not None:  # the single token that is generated is discarded
            return prompt, SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, flat_logprobs=True, **how)
        return prompt, SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            logprobs=0 if sampling.logprobs else None,
            logprob_token_ids=list(sampling.logprob_ids) or None,
            flat_logprobs=sampling.logprobs,
            stop_token_ids=[self.end_id],
            **how,
        )

    def _answer(self, output: Any, request: Request) -> Answer:
        if request.score_from is not None:
            return [_scored(output, request, request.score_from)]
        if len(output.outputs) != request.sampling.n:
            return Failure(f"engine_returned_{len(output.outputs)}_of_{request.sampling.n}")
        for one in output.outputs:
            if one.finish_reason not in ("stop", "length"):
                return Failure(f"engine_{one.finish_reason}")
        return [self._completion(one, request) for one in sorted(output.outputs, key=lambda one: one.index)]

    def _completion(self, one: Any, request: Request) -> Completion:
        stopped = one.finish_reason == "stop"
        return replace(
            completion_of(self.tokenizer, request, one.token_ids, stopped),
            sum_logprob=one.cumulative_logprob if request.sampling.logprobs else None,
            id_logprobs=_of_first_token(one, request) if request.sampling.logprob_ids else None,
        )


def completion_of(tokenizer: Any, request: Request, token_ids: Sequence[int], stopped: bool) -> Completion:
    """The completion of a request by these tokens; if it `stopped` by itself, the last of them is the one that ended it."""
    prompt = list(request.prompt_ids)
    begins = len(prompt) - request.begun
    ids = [*prompt[begins:], *token_ids]
    text = decode(tokenizer, prompt[:begins], ids[:-1] if stopped else ids)
    return Completion(text, ids, finished=stopped or bool(request.sampling.logprob_ids))


def decode(tokenizer: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text of tokens that come after others: the tokens before them decide whether it begins with a space.

    A special token in the middle of a reply must reach the parser, not vanish. Half of a character at the end is left out.
    """
    some = [*before[-_BEFORE:]]
    known = tokenizer.decode(some, skip_special_tokens=False)
    whole = tokenizer.decode([*some, *ids], skip_special_tokens=False)
    text = whole[len(known) :] if whole.startswith(known) else tokenizer.decode(list(ids), skip_special_tokens=False)
    return str(text).rstrip("\ufffd")


def _scored(output: Any, request: Request, start: int) -> Completion:
    """The sum of the prompt's logprobs from position `start` on. The first token of all has none."""
    found = output.prompt_logprobs
    assert list(found.token_ids[start - 1 :]) == list(request.prompt_ids[start:]), "these are others' logprobs"
    return Completion("", [], finished=True, sum_logprob=sum(found.logprobs[start - 1 :]))


def _of_first_token(one: Any, request: Request) -> list[float]:
    return [float(one.logprobs[0][token].logprob) for token in request.sampling.logprob_ids]
