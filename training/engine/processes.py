"""The processes that train a model: how they were started, and what the first does for all."""

import gc
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import datasets
import torch
import torch.distributed
from accelerate.utils import broadcast_object_list
from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
from transformers import set_seed
from transformers.utils import logging

from training.engine.arguments import TrainingArguments, make_arguments
from training.engine.memory import keep_freed_memory
from training.recipe.parse import Recipe
from vanilla_transformer.errors import FirstProcessError, RecipeError, Terminated, UserError

T = TypeVar("T")


def launch(recipe: Recipe, arguments: list[str]) -> TrainingArguments:
    """
    Set the process up for its part of a run, and return what Trainer goes by.

    Args:
        arguments: the words of the command line.

    Raises:
        RecipeError: for settings that transformers refuses, and for launches that would silently run in the wrong
            configuration, with the line that works.
    """
    args = make_arguments(recipe.training, recipe.others)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if args.world_size != started:
        raise RecipeError(
            f"{started} processes were started, but each sees {args.world_size}. Launch with "
            f"`torchrun --nproc_per_node {started} -m training.train {shlex.join(arguments)}`."
        )
    if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        raise RecipeError(
            "FSDP is not supported: it shards weights that checkpoints, means and scores here read whole. A big model "
            "with Adam takes 3.4 GB of a GPU. Launch with `--config_file training/accelerate/multi_gpu.yaml`."
        )
    if args.n_gpu > 1:
        raise RecipeError(
            f"Plain python would drive {args.n_gpu} GPUs by nn.DataParallel, which is slow. Launch with "
            f"`accelerate launch -m training.train {shlex.join(arguments)}`."
        )
    return args


def prepare_process(args: TrainingArguments) -> None:
    """Set seed, threads and memory of this process, and quieten libraries where no one watches."""
    logging.set_verbosity_warning()
    logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        disable_progress_bars()
    set_seed(args.seed)
    if args.recipe.num_threads is not None:
        torch.set_num_threads(min(args.recipe.num_threads, torch.get_num_threads()))
    if args.use_cpu:
        keep_freed_memory()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(Path(args.output_dir) / "logs")


@dataclass
class Ended:
    """How a run ended: with the exit status of its work, or 0 after SIGTERM."""

    status: int = 0


@contextmanager
def end_with_sigterm() -> Iterator[Ended]:
    """End the block when SIGTERM arrives; while a model is trained, `TerminationCallback` takes it."""

    def terminate(*_: object) -> None:
        raise Terminated

    ended = Ended()
    in_main_thread = threading.current_thread() is threading.main_thread()
    try:
        if in_main_thread:
            signal.signal(signal.SIGTERM, terminate)
        yield ended
    except Terminated:
        print(
            "stopped by SIGTERM outside training: there was nothing to save. Go on with `--resume_from_checkpoint "
            "auto`."
        )
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_process_group() -> None:
    """Leave the process group together; gloo aborts at exit if groups outlive the objects that use them."""
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def first_process(args: TrainingArguments, work: Callable[[], T]) -> T:
    """
    Return in all processes the result of `work` in the first one; the others do not run it.

    Raises:
        Exception: whatever `work` raises. The other processes, which would wait for ever, raise the same for a user's
            error, and a `FirstProcessError` for any other exception.
    """
    if args.process_index == 0:
        outcome: tuple[T | None, UserError | str | None]
        try:
            found = work()
        except BaseException as error:
            outcome = None, error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            if args.world_size > 1:
                broadcast_object_list([outcome])
            raise
        if args.world_size > 1:
            broadcast_object_list([(found, None)])
        return found
    received: list[tuple[T | None, UserError | str | None]] = [(None, None)]
    broadcast_object_list(received)
    result, failure = received[0]
    if isinstance(failure, UserError):
        raise failure
    if failure is not None:
        raise FirstProcessError(f"The first process failed with {failure}. Its traceback says where.")
    return cast(T, result)
