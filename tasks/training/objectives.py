"""TRL's trainers, one for each training objective, and GRAM's loss."""

from __future__ import annotations

from typing import Any

from tasks.model.chat import ChatEncoder
from tasks.model.saving import make_savable
from tasks.settings import LoraSettings, Mechanics, Optimization
from tasks.training.distributed import complete_sharding, distributed_arguments, is_sharded, load_model, world_size
from tasks.training.examples import IGNORED
from tasks.training.job import TrainingJob
from tasks.training.layers import freeze_beside_text, pattern_beside_text, train_upper_layers


def label_loss(logits_N2: Any, labels_N: Any, label_smoothing: float) -> Any:
    """GRAM's loss, summed over N verdicts: cross-entropy over only the two label tokens, with label smoothing ε′ (METHOD 0).

    `logits_N2` are the logits of the tokens "A" and "B" at the verdict's position, `labels_N` is 0 for A and 1 for B. ε′ is
    torch's `label_smoothing`: with Δ = Z_l − Z_l', the label's logit minus the other's, one verdict costs
    −(1 − ε′/2)·log σ(Δ) − ε′/2·log σ(−Δ) = −log σ(Δ) + ε′/2·Δ, Bradley-Terry's loss with a regulariser. Its minimum is at
    P(l) = σ(Δ) = 1 − ε′/2 (0.95 at the default of 0.1), not at P(l) = 1: no confidence above that is to be expected.
    """
    import torch

    return torch.nn.functional.cross_entropy(
        logits_N2.float(), labels_N, label_smoothing=label_smoothing, reduction="sum"
    )


def _label_trainer(label_ids: tuple[int, int], label_smoothing: float) -> Any:
    """SFTTrainer with GRAM's loss: each example has one token to learn, the label's.

    The model's head gives the logits of the vocabulary, or of the two labels alone.
    """
    import torch
    from trl import SFTTrainer

    class LabelTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            labels_BT = inputs.pop("labels")
            rows_N, places_N = (labels_BT != IGNORED).nonzero(as_tuple=True)
            chosen_N = (labels_BT[rows_N, places_N] == label_ids[1]).long()
            # A token is predicted at the position before it. Logits are computed at those positions only, in all rows.
            kept_P, at_N = torch.unique(places_N - 1, return_inverse=True)
            outputs = model(**inputs, logits_to_keep=kept_P, use_cache=False)
            logits_N2 = outputs.logits[rows_N, at_N]
            if logits_N2.shape[1] != 2:
                logits_N2 = logits_N2[:, list(label_ids)]
            loss = label_loss(logits_N2, chosen_N, label_smoothing)
            loss = loss / (len(rows_N) if num_items_in_batch is None else num_items_in_batch)
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                # The items are counted over all processes, and gradients are averaged over the processes.
                loss = loss * self.accelerator.num_processes
            mode = "train" if self.model.training else "eval"
            right = (logits_N2.argmax(-1) == chosen_N).float().mean()
            self._metrics[mode]["label_accuracy"].append(self.accelerator.gather(right).mean().item())
            if mode == "train":
                seen = torch.tensor(labels_BT.numel(), device=labels_BT.device)
                self._total_train_tokens += int(self.accelerator.gather(seen).sum().item())
            self._metrics[mode]["num_tokens"] = [self._total_train_tokens]
            return (loss, outputs) if return_outputs else loss

    return LabelTrainer


def build_trainer(job: TrainingJob, encoder: ChatEncoder, train: Any, validation: Any, output_dir: str) -> Any:
    """The trainer of a job over its encoded examples."""
    import torch
    import transformers
    from trl import RewardTrainer, SFTTrainer
    from trl.models import enable_selective_activation_checkpointing

    from tasks.model.device import compute_head_in_float32, engine_dtype

    models, mechanics, optimization = job.settings()
    gpu = torch.cuda.is_available()
    dtype, sharded = engine_dtype(models.dtype, gpu), is_sharded(gpu, optimization)
    attention = {} if mechanics.attention == "auto" else {"attn_implementation": mechanics.attention}
    # Full fine-tuning keeps its weights in float32 and computes in bfloat16: at small learning rates, updates to
    # bfloat16 weights round away. With LoRA the base stays as it is and peft keeps the adapter in float32.
    stored = getattr(torch, "float32" if optimization.lora is None else dtype)
    scalar = job.role == "scalar"
    kind = transformers.AutoModelForSequenceClassification if scalar else transformers.AutoModelForCausalLM
    how = {"dtype": stored, "trust_remote_code": bool(models.trust_remote_code), **attention}
    model = load_model(kind, job.base, sharded, {"num_labels": 1} if scalar else {}, how)
    make_savable(model)
    freeze_beside_text(model)
    if mechanics.trainable_layers is not None:
        train_upper_layers(model, mechanics.trainable_layers)
    arguments = training_arguments(job, output_dir, encoder)
    if mechanics.gradient_checkpointing == "selective":
        enable_selective_activation_checkpointing(model)
    if sharded:
        complete_sharding(arguments, model, dtype)
    if scalar:
        trainer: Any = RewardTrainer
    elif job.role == "label-judge":
        trainer = _label_trainer(encoder.label_ids, job.label_smoothing)
    else:
        trainer = SFTTrainer
    made = trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=encoder.tokenizer,
        peft_config=lora_config(optimization.lora, scalar, pattern_beside_text(model)),
    )
    if dtype != "float32":
        # What is rounded behind the head is rounded in the loss: two labels whose logits differ by less than 0.1 are equal.
        if scalar:
            compute_head_in_float32(made.model.score)
        elif job.role == "label-judge":
            compute_head_in_float32(made.model.get_output_embeddings(), encoder.label_ids)
    if optimization.lora is not None:
        for parameter in made.model.parameters():
            if parameter.requires_grad:  # a scalar head comes in the base's dtype, in which updates round away
                parameter.data = parameter.data.float()
    return made


def training_arguments(job: TrainingJob, output_dir: str, encoder: ChatEncoder) -> Any:
    """The trainer's configuration. The examples are already encoded, fit, and are packed: TRL batches and computes the loss."""
    import torch
    from trl import RewardConfig, SFTConfig

    from tasks.model.device import engine_dtype

    models, mechanics, optimization = job.settings()
    gpu = torch.cuda.is_available()
    dtype = engine_dtype(models.dtype, gpu)
    common = {
        "output_dir": output_dir,
        "learning_rate": optimization.learning_rate,
        "num_train_epochs": optimization.epochs or 1,
        "max_steps": optimization.max_steps or -1,
        **batch_arguments(optimization, world_size()),
        "warmup_steps": optimization.warmup_ratio,  # below 1, a share of the steps
        "lr_scheduler_type": optimization.schedule,
        "weight_decay": optimization.weight_decay,
        "max_length": models.max_tokens,
        "torch_compile": mechanics.compile,
        "use_liger_kernel": mechanics.liger_kernels,
        # Its fused loss would replace the model's forward pass, which TRL replaces for a fused loss of its own.
        "liger_kernel_config": {"fused_linear_cross_entropy": False} if mechanics.liger_kernels else None,
        "bf16": dtype == "bfloat16",
        "fp16": gpu and dtype == "float16",
        "use_cpu": not gpu,
        "logging_steps": mechanics.log_every,
        "report_to": list(mechanics.report_to) or "none",
        "run_name": job.label,
        # A callback requests saving, and removes what is not needed any more.
        "save_strategy": "no",
        "seed": job.seed,
        "data_seed": job.seed,
        "disable_tqdm": True,
        "dataloader_pin_memory": gpu,
        "pad_to_multiple_of": None,
        **_recomputation(mechanics),
        **_early_stopping(job, optimization),
        **distributed_arguments(gpu, is_sharded(gpu, optimization)),
    }
    if job.role == "scalar":
        return RewardConfig(**{**common, "max_length": None}, pad_token=_pad_token(encoder))
    length = job.packed_to() or models.max_tokens
    prepared = {"packing": mechanics.packing, "dataset_kwargs": {"skip_prepare_dataset": True}}
    return SFTConfig(**{**common, "max_length": length}, **prepared)


def _recomputation(mechanics: Mechanics) -> dict[str, Any]:
    """Gradient checkpointing: in all layers, or in every n-th. What is selected within a layer is set on the model."""
    share = mechanics.recomputed_share
    layers = {"every_n_layers": round(1 / share)} if 0 < share < 1 else None
    return {"gradient_checkpointing": share > 0, "gradient_checkpointing_kwargs": layers}


def batch_arguments(optimization: Optimization, processes: int) -> dict[str, int]:
    """How a batch is split over processes and accumulation steps. Raises ValueError if it does not divide evenly."""
    batch = optimization.batch_size
    micro = min(optimization.micro_batch_size or max(batch // processes, 1), batch)
    if batch % (micro * processes):
        raise ValueError(
            f"a batch of {batch} examples cannot be split into micro-batches of {micro} for {processes} processes: make "
            f"batch_size a multiple of {micro * processes}, or set training.processes or micro_batch_size"
        )
    return {"per_device_train_batch_size": micro, "gradient_accumulation_steps": batch // (micro * processes)}


def _early_stopping(job: TrainingJob, optimization: Optimization) -> dict[str, Any]:
    if not job.validation or optimization.early_stopping is None:
        return {}
    return {
        "eval_strategy": "steps",
        "eval_steps": optimization.early_stopping.every,
        "save_strategy": "best",
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "load_best_model_at_end": True,
        # The number of evaluations without a lower loss so far: a resumed training must not get more patience.
        "restore_callback_states_from_checkpoint": True,
        "per_device_eval_batch_size": optimization.micro_batch_size or optimization.batch_size,
    }


def _pad_token(encoder: ChatEncoder) -> str:
    """A padding token that does not end a turn: the head reads the last token that is not padding."""
    tokenizer = encoder.tokenizer
    if tokenizer.pad_token_id not in (None, encoder.end_id):
        return str(tokenizer.pad_token)
    return str(tokenizer.convert_ids_to_tokens(0 if encoder.end_id != 0 else 1))


def lora_config(lora: LoraSettings | None, scalar: bool, excluded: str | None) -> Any:
    """Which adapters are trained; none on the modules that the pattern `excluded` names."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=excluded,
        task_type="SEQ_CLS" if scalar else "CAUSAL_LM",
        modules_to_save=["score"] if scalar else None,
    )
