"""Progress lines and checkpoints of a training in progress, and which of the checkpoints are complete."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from data.files import write_json
from data.store.artifacts import StageError
from tasks.machine import child
from tasks.settings import Mechanics
from tasks.training.distributed import SHARD_FOLDER
from tasks.training.job import COMPLETE

_SHOWN = ("loss", "grad_norm", "learning_rate", "eval_loss", "label_accuracy", "accuracy")
_STATE = "trainer_state.json"


def last_checkpoint(folder: Path, sharded: bool = False) -> Path | None:
    """The latest complete checkpoint of a training in progress, or None.

    Raises StageError if the training cannot go on from it: `sharded` ones hold a part of the weights from each process.
    """
    found = next(filter(_is_complete, _newest_first(folder)), None)
    if found is None or (found / SHARD_FOLDER).is_dir() == sharded:
        return found
    if sharded:
        how, others = (
            "on one GPU, and this training shares the weights out among several",
            "with training.processes = 1",
        )
    else:
        how, others = "on several GPUs, each with a part of the weights, and this training has one", "on several GPUs"
    raise StageError(f"{found} was written {how}: to go on from it, start {others}; to begin again, remove {folder}")


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)


def _is_complete(checkpoint: Path) -> bool:
    marker = checkpoint / COMPLETE
    if not marker.exists():
        return False
    sizes = json.loads(marker.read_text(encoding="utf-8"))["files"]
    if not sizes.get(_STATE):
        return False
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == n for name, n in sizes.items())


def _remove_others(saved: Path, best: str) -> None:
    """Removes all checkpoints but the one just saved and the best; if that is the same, all but it and the one before.

    The trainer itself would go by the folders' times: when a clock has been set back, it takes the newest for the oldest.
    """
    others = [path for path in _newest_first(saved.parent) if path != saved]
    kept = sorted((path for path in others if (path / COMPLETE).exists()), key=lambda path: path.name != best)[:1]
    for path in others:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _sizes_seen_by_all(checkpoint: Path) -> dict[str, int]:
    """The sizes of a checkpoint's files, including those that only their own process sees yet. Every process calls it."""
    import torch.distributed as dist

    def sizes() -> dict[str, int]:
        files = (path for path in checkpoint.rglob("*") if path.is_file())
        return {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}

    if not dist.is_initialized():
        return sizes()
    dist.barrier()  # each process writes its own files
    seen: list[dict[str, int]] = [{}] * dist.get_world_size()
    dist.all_gather_object(seen, sizes())
    return {name: max(one.get(name, 0) for one in seen) for name in sorted(set().union(*seen))}


def progress_callback(mechanics: Mechanics, earlier_s: float) -> Any:
    """Reports progress and regularly saves a checkpoint: at logged steps, so that resuming restarts no average of the loss.

    Two checkpoints are kept, so that one is complete while the other is being written.
    """
    import torch.distributed as dist
    from transformers import TrainerCallback

    started = saved = time.monotonic()
    put_off = False

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # The trainer stores the path of its best checkpoint, which is a different one on another machine.
            best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            if _is_complete(best):
                state.best_model_checkpoint = str(best)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            nonlocal put_off
            if state.is_world_process_zero:
                child.report_progress(done=state.global_step, total=state.max_steps)
            evaluates = args.load_best_model_at_end and state.global_step % args.eval_steps == 0
            if evaluates:
                control.should_log = True  # the best checkpoint may be saved here, and resuming continues from its log
            if (put_off or state.global_step % args.logging_steps == 0) and state.global_step < state.max_steps:
                due = [time.monotonic() - saved >= 60 * mechanics.checkpoint_minutes]
                if dist.is_initialized():  # clocks differ: all processes save, or none
                    dist.broadcast_object_list(due, src=0)
                # After an evaluation, the trainer saves a new best and nothing else: what is due waits for the next step that has
                # none. Where every step is evaluated, only a new best is saved.
                put_off = due[0] and evaluates
                control.should_save = control.should_save or due[0]
                control.should_log = control.should_log or due[0]

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            nonlocal saved
            saved = time.monotonic()
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sizes = _sizes_seen_by_all(folder)
            if state.is_world_process_zero and sizes.get(_STATE):
                seconds = earlier_s + time.monotonic() - started
                write_json(folder / COMPLETE, {"files": sizes, "seconds": round(seconds, 2)})
                _remove_others(folder, f"checkpoint-{state.best_global_step}")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            shown = {key: value for key, value in (logs or {}).items() if key in _SHOWN}
            if shown and state.is_world_process_zero:
                print(f"step {state.global_step} of {state.max_steps}: {shown}", flush=True)

    return Progress()
