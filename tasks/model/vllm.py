"""The `Engine` for real use: vLLM, in the calling process. One engine per process, never two.

Two engines in one process corrupted each other's memory when tried, and GPU memory is reliably freed only when the
process ends; hence `tasks.generation.worker` runs this in a child process with its own environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from tasks.model.device import engine_dtype, has_gpu
from tasks.model.engine import Completion, Failure, OnAnswer, Request
from tasks.settings import GenerationSettings, ModelSettings

_CPU_BATCH_TOKENS = 4096


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

        `scoring` says that `score` will be called, `by_label` that the probabilities of labels will be read: either has the
        head compute in float32.
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
            seed=0,  # used only by requests without a seed; every request here has one
            **{**options, **generation.engine},
        )

    def generate(self, requests: Sequence[Request], on_answer: OnAnswer) -> None:
        """See `Engine.generate`. A request that the engine does not return is a `Failure`, never an empty completion."""
        from vllm.exceptions import VLLMClientError

        engine = self.llm.llm_engine
        names = map(str, count())
        waiting: dict[str, tuple[int, Request]] = {}

        def add(i: int, request: Request) -> None:
            name = next(names)
            try:  # one by one: a request that the engine rejects must not fail the others
                engine.add_request(name, *self._as_vllm(request))
                waiting[name] = (i, request)
            except (ValueError, VLLMClientError) as error:
                tell(i, Failure("engine_refused", str(error)))

        def tell(i: int, answer: list[Completion] | Failure) -> None:
            instead = on_answer(i, answer)
            if instead is not None:
                add(i, instead)

        for i, request in enumerate(requests):
            add(i, request)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    i, request = waiting.pop(output.request_id)
                    tell(i, _completions(output, request))
        for i, _ in list(waiting.values()):
            tell(i, Failure("engine_lost_the_request"))

    def score(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        """See `Engine.score`. One prefill per text; the single token that is generated is discarded."""
        from vllm import SamplingParams, TokensPrompt

        outputs = self.llm.generate(
            [TokensPrompt(prompt_token_ids=[*prefix, *continuation]) for prefix, continuation in texts],
            SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False),
            use_tqdm=False,
        )
        return [
            sum(
                float(position[token].logprob)
                for position, token in zip(output.prompt_logprobs[len(prefix) :], continuation, strict=True)
            )
            for output, (prefix, continuation) in zip(outputs, texts, strict=True)
        ]

    def _as_vllm(self, request: Request) -> tuple[Any, Any]:
        """The prompt and the sampling parameters of a request."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        [prompt] = self.llm.renderer.render_cmpl([TokensPrompt(prompt_token_ids=list(request.prompt_ids))])
        return prompt, SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            logprobs=0 if sampling.logprobs else None,
            logprob_token_ids=list(sampling.logprob_ids) or None,
            stop_token_ids=[self.end_id],
            # A special token in the middle of a reply must reach the parser, not vanish.
            skip_special_tokens=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _completions(output: Any, request: Request) -> list[Completion] | Failure:
    if len(output.outputs) != request.sampling.n:
        return Failure(f"engine_returned_{len(output.outputs)}_of_{request.sampling.n}")
    for one in output.outputs:
        if one.finish_reason not in ("stop", "length"):
            return Failure(f"engine_{one.finish_reason}")
    return [
        Completion(
            text=one.text,
            token_ids=list(one.token_ids),
            finished=one.finish_reason == "stop" or bool(request.sampling.logprob_ids),
            sum_logprob=one.cumulative_logprob if request.sampling.logprobs else None,
            id_logprobs=_of_first_token(one, request) if request.sampling.logprob_ids else None,
        )
        for one in sorted(output.outputs, key=lambda one: one.index)
    ]


def _of_first_token(one: Any, request: Request) -> list[float]:
    return [float(one.logprobs[0][token].logprob) for token in request.sampling.logprob_ids]
