"""The models of a run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from prompts.catalog import JudgePromptName
from tasks.settings.section import Role, Section


class ModelSettings(Section):
    """The two base models, the judge's prompt, and the maximum sequence length."""

    judge_base: str = Field(
        title="Judge base model",
        description="Folder or hub name of the model that the judge is trained from. Paper: LLaMA-3.1-8B-Instruct, "
        "LLaMA-3.2-3B-Instruct.",
    )
    prover_base: str = Field(
        "",
        title="Prover base model",
        description="Folder or hub name of the model that the prover is trained from. Paper: Qwen3-14B. Not needed if no "
        "proofs are written.",
    )
    judge_prompt: JudgePromptName = Field(
        "gram-r2",
        title="Judge prompt",
        description="gram-r2: the prompt of the released checkpoints, byte for byte. compact: a short one with the same reply "
        "format, for small models. compact-label, gram, gram-card: the reply is the label alone.",
    )
    max_tokens: int = Field(
        4096,
        ge=64,
        title="Context length (tokens)",
        description="Prompt and reply together may have this many tokens, in training and in generation.",
    )
    overlong: Literal["drop", "truncate"] = Field(
        "drop",
        title="Overlong prompts",
        description="drop: leave the pair out and count it. truncate: shorten question and responses to a fair share each; "
        "the end of the prompt is never cut.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        title="Data type",
        description="Weights have this type in training and generation. auto: bfloat16 on a GPU, float32 on a CPU.",
    )
    system: str | None = Field(
        None,
        title="System turn",
        description="Begins every prompt of the models that are trained, and stays in their chat templates. Not given: what the "
        'template adds by itself, as those of Qwen2.5 and SmolLM2 do; "" puts an empty turn in its place.',
        exclude_if=lambda value: value is None,
    )
    trust_remote_code: tuple[str, ...] = Field(
        (),
        title="Trust remote code of",
        description="Base models, named as above, whose own Python code may run. List only models whose code you trust.",
    )

    @model_validator(mode="after")
    def _trusted_models_are_base_models(self) -> Self:
        unknown = set(self.trust_remote_code) - {self.judge_base, self.prover_base}
        if unknown:
            raise ValueError(
                f"trust_remote_code names {', '.join(sorted(unknown))}, which is neither of the base models"
            )
        return self

    def for_role(self, role: Role) -> Self:
        """A copy that trusts only the code of this role's own base model."""
        base = self.prover_base if role == "prover" else self.judge_base
        return self.model_copy(update={"trust_remote_code": tuple(n for n in self.trust_remote_code if n == base)})
