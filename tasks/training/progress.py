"""Progress lines and checkpoints of a training in progress, and which of the checkpoints are complete."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from data.files import write_json
from tasks.machine import child
from tasks.settings import Mechanics
from tasks.training.job import COMPLETE

_SHOWN = ("loss", "grad_norm", "learning_rate", "eval_loss", "label_accuracy", "accuracy")


def last_checkpoint(folder: Path) -> Path | None:
    """The latest complete checkpoint of a training in progress, or None."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    return next((path for path in found if _is_complete(path)), None)


def _is_complete(checkpoint: Path) -> bool:
    marker = checkpoint / COMPLETE
    if not marker.exists():
        return False
    sizes = json.loads(marker.read_text(encoding="utf-8"))["files"]
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == n for name, n in sizes.items())


def progress_callback(mechanics: Mechanics, earlier_s: float) -> Any:
    """Reports progress and regularly saves a checkpoint: at logged steps, so that resuming restarts no average of the loss."""
    import torch.distributed as dist
    from transformers import TrainerCallback

    started = saved = time.monotonic()

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # The trainer stores the path of its best checkpoint, which is a different one on another machine.
            best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
            if _is_complete(best):
                state.best_model_checkpoint = str(best)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                child.report_progress(done=state.global_step, total=state.max_steps)
            if args.load_best_model_at_end and state.global_step % args.eval_steps == 0:
                control.should_log = True  # the best checkpoint may be saved here, and resuming continues from its log
            if state.global_step % args.logging_steps == 0 and state.global_step < state.max_steps:
                due = [time.monotonic() - saved >= 60 * mechanics.checkpoint_minutes]
                if dist.is_initialized():  # clocks differ: all processes save, or none
                    dist.broadcast_object_list(due, src=0)
                control.should_save = control.should_save or due[0]

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            nonlocal saved
            saved = time.monotonic()
            if dist.is_initialized():  # each process writes its own files
                dist.barrier()
            if not state.is_world_process_zero:
                return
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
            seconds = earlier_s + time.monotonic() - started
            write_json(folder / COMPLETE, {"files": sizes, "seconds": round(seconds, 2)})

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            shown = {key: value for key, value in (logs or {}).items() if key in _SHOWN}
            if shown and state.is_world_process_zero:
                print(f"step {state.global_step} of {state.max_steps}: {shown}", flush=True)

    return Progress()
