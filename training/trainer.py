"""`Seq2SeqTrainer` with token-budget batches, the paper's schedule, whole checkpoints and evaluation of whole sets."""

import copy
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import ProgressCallback, Seq2SeqTrainer, TrainerCallback, TrainerControl
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

from training.arguments import RecipeError, TrainingArguments
from training.batching import TokenBudgetBatchSampler, batch_budget
from training.callbacks import (
    EpochCallback,
    LossWindowCallback,
    PatienceCallback,
    StopwatchCallback,
    TerminationCallback,
    TrainingProgressCallback,
)
from training.checkpoints import EXTRA, UNFINISHED, find_best, find_checkpoints
from training.encoding import lengths
from training.optimization import noam_schedule
from vanilla_transformer import VanillaTransformerPreTrainedModel, VanillaTransformerTokenizer
from vanilla_transformer.kernels_vanilla_transformer import IGNORED_LABEL
from vanilla_transformer.loading import share_weights

# Decoding keeps scores of the whole vocabulary for each beam, so that its batches are smaller than training's.
EVALUATION_TOKENS = 4096
# Losses that may wait to be looked at on a GPU: looking at one means waiting for it.
UNCHECKED_LOSSES = 8


class VanillaTransformerTrainer(Seq2SeqTrainer):
    """
    Train and evaluate a model on data sets with the columns `row`, `source_length` and `target_length` beside those of
    the task.

    A task says in a subclass how rows make a batch (`collate`), what is measured of one (`measure`), and what all of
    these together are (`summarize`).

    Args:
        model, args, train_dataset, eval_dataset, callbacks: as in `Seq2SeqTrainer`.
        processing_class: the tokenizer.

    Attributes:
        decode: whether `evaluate` also generates text, for scores of that, where the task does so.
    """

    args: TrainingArguments
    decode: bool = False
    lr_scheduler: LRScheduler | None
    control: TrainerControl

    def __init__(
        self,
        model: VanillaTransformerPreTrainedModel,
        args: TrainingArguments,
        train_dataset: datasets.Dataset | None = None,
        eval_dataset: datasets.Dataset | None = None,
        processing_class: VanillaTransformerTokenizer | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ):
        # Trainer switches the cache off and writes defaults into the generation settings; both must not be saved.
        self._clean_use_cache = model.config.use_cache
        self._clean_generation_config = copy.deepcopy(getattr(model, "generation_config", None))
        if args.noam:
            args.learning_rate = 1.0  # the schedule gives absolute rates
        if args.bf16 and args.use_cpu and model.config._attn_implementation == "sdpa":
            # Measured: torch's fused attention is ten times slower backwards in bfloat16 than in float32 on a CPU, and
            # the plain one is as fast as that.
            model.set_attn_implementation("eager")
        super().__init__(
            model=model,
            args=args,
            data_collator=self.collate_training,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        self.train_sampler: TokenBudgetBatchSampler | None = None
        self._tokens = torch.zeros((), dtype=torch.long, device=self.args.device)
        self._tokens_since = time.perf_counter()
        self._unchecked: list[tuple[int, torch.Tensor, torch.Tensor]] = []  # steps, rows and losses of batches
        self._writes_aside = False
        self._full_precision = False
        self.loss_window, self.termination = LossWindowCallback(self), TerminationCallback(self)
        self.stopwatch = StopwatchCallback()
        self.remove_callback(ProgressCallback)
        for callback in (self.stopwatch, EpochCallback(self), self.loss_window, PatienceCallback(), self.termination):
            self.add_callback(callback)
        if not args.disable_tqdm:
            self.add_callback(TrainingProgressCallback())

    # ----- batches -----

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows of a data set to tensors that the model takes."""
        raise NotImplementedError

    def collate_training(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """A batch to learn from, with the numbers of its rows, for messages: `row` (B,)."""
        return {**self.collate(rows), "row": torch.tensor([row["row"] for row in rows])}

    def collate_share(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """
        As `collate_training`; without rows, a batch whose `row` is empty and whose loss does not count.

        A process without a sentence of a step computes one all the same: the others wait for its gradients.
        """
        if rows:
            return self.collate_training(rows)
        return {**self.collate_training([self.train_dataset[0]]), "row": torch.empty(0, dtype=torch.long)}

    def count_tokens(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Tokens of a batch, padding not counted."""
        return inputs["attention_mask"].sum()

    def make_train_sampler(self) -> TokenBudgetBatchSampler:
        """The steps of an epoch, in batches for every process and accumulation."""
        source_lengths, target_lengths = lengths(self.train_dataset)
        return TokenBudgetBatchSampler(
            source_lengths,
            target_lengths,
            self.args.tokens_per_step,
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            batches_per_step=self.args.world_size * self.args.gradient_accumulation_steps,
        )

    def get_train_dataloader(self) -> DataLoader:
        self.train_sampler = self.make_train_sampler()
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.train_sampler,
            collate_fn=self.collate_share,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: datasets.Dataset | None = None) -> DataLoader:
        """This process's share of the batches, every sentence once over all processes."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        source_lengths, target_lengths = lengths(dataset)
        longest = int(max(source_lengths.max(), target_lengths.max()))
        budget = min(EVALUATION_TOKENS, self.args.tokens_per_device or EVALUATION_TOKENS)
        sampler = TokenBudgetBatchSampler(
            source_lengths, target_lengths, max(budget, longest), shuffle=False, spread=False
        )
        batches = list(sampler)
        share = batches[self.args.process_index :: self.args.world_size]
        indexed = dataset.add_column("index", np.arange(len(dataset)))

        def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
            return {**self.collate(rows), "index": [row["index"] for row in rows]}

        # With a generator of its own it draws nothing from training's, which a resumed run would miss.
        return DataLoader(indexed, batch_sampler=share, collate_fn=collate, generator=torch.Generator())

    get_test_dataloader = get_eval_dataloader

    # ----- optimization -----

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        if not self.args.noam:
            try:
                return super().create_scheduler(num_training_steps, optimizer)
            except (TypeError, ValueError) as error:  # some need settings of their own, or take none
                raise RecipeError(
                    f"`lr_scheduler_type` is {self.args.lr_scheduler_type.value} with `lr_scheduler_kwargs` "
                    f"{self.args.lr_scheduler_kwargs or '{}'}: {error}"
                ) from error
        if self.lr_scheduler is None:
            self.lr_scheduler = noam_schedule(
                self.optimizer if optimizer is None else optimizer,
                self.model.config.hidden_size,
                self.args.warmup_steps,
                self.args.noam_scale,
            )
        return self.lr_scheduler

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Any:
        """Labels of a step, on all devices, without those of batches that do not count."""
        counted = [
            {"labels": batch["labels"] if len(batch["row"]) else torch.full_like(batch["labels"], IGNORED_LABEL)}
            for batch in batch_samples
        ]
        return super()._get_num_items_in_batch(counted, device)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        rows = inputs.pop("row")
        if len(rows):
            self._tokens += self.count_tokens(inputs).to(self._tokens.device)
        else:
            num_items_in_batch = num_items_in_batch * math.inf  # of which its loss is a share of 0
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except RuntimeError as error:
            kept = "the step stays as it is, by accumulation; no training input may be longer"
            self.explain_memory(error, inputs, batch_budget(self.args), f": {kept}")
            raise
        self._unchecked.append((self.state.global_step + 1, rows, loss))
        if loss.device.type == "cpu" or len(self._unchecked) >= UNCHECKED_LOSSES:
            self.check_losses()
        return loss

    def check_losses(self) -> None:
        """
        See that the losses since the last look are numbers.

        Raises:
            RecipeError: if one is not; the pairs of its batch are named.
        """
        unchecked, self._unchecked = self._unchecked, []
        for step, rows, loss in unchecked:
            if not math.isfinite(loss.item()):
                named = ", ".join(map(str, sorted(rows.tolist())))
                raise RecipeError(
                    f"The loss is {loss.item()} in step {step:,}, with rows {named} of the "
                    "training data in its batch. Look at these; if nothing is wrong with them lower `noam_scale`, or "
                    "set `max_grad_norm: 1`. The checkpoints before are whole."
                )

    @staticmethod
    def explain_memory(error: RuntimeError, batch: dict[str, torch.Tensor], budget: int, then: str = "") -> None:
        """
        Say what to do if memory ran out, and what happens then.

        Raises:
            RecipeError: if it did.
        """
        words = str(error)
        out = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in words or "not enough memory" in words
        if not out:
            return
        shapes = [
            f"{name} {batch[key].shape[0]} x {batch[key].shape[1]}"
            for name, key in (("source", "input_ids"), ("target", "labels"))
            if key in batch and batch[key].dim() == 2
        ]
        raise RecipeError(
            f"Out of memory with a batch of {' and '.join(shapes)} tokens. Set `tokens_per_device: "
            f"{max(1, budget // 2)}`{then}."
        ) from error

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the speed since the last log: source and target tokens per second, padding not counted."""
        if "loss" in logs:
            self.check_losses()
            tokens = self.accelerator.reduce(self._tokens, reduction="sum").item()
            now = time.perf_counter()
            logs["tokens_per_second"] = round(tokens / (now - self._tokens_since), 1)
            self.restart_clock()
        super().log(logs, start_time)

    def restart_clock(self) -> None:
        """Begin a new measurement of speed, so that it holds training alone."""
        self._tokens.zero_()
        self._tokens_since = time.perf_counter()

    # ----- evaluation -----

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """What `summarize` makes of the parts of all processes; predictions are in the order of the data set."""
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        dataset: Any = dataloader.dataset
        self.callback_handler.eval_dataloader = dataloader  # its length is that of the progress bar
        parts = []
        for batch in dataloader:
            indices = batch.pop("index")
            batch = self._prepare_inputs(batch)
            # With autocast a model that is not in training yet computes as one that is.
            precision = nullcontext() if self._full_precision else self.accelerator.autocast()
            try:
                with torch.no_grad(), precision:
                    parts.append(self.measure(model, batch, indices, dataset))
            except RuntimeError as error:
                self.explain_memory(error, batch, batch["input_ids"].numel())
                raise
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        # Batches were dealt out whole, none twice: the parts of all processes make the whole set.
        metrics, predictions = self.summarize(gather_object(parts), dataset)
        self.restart_clock()
        return EvalLoopOutput(
            predictions=predictions,
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(dataset),
        )

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Evaluate in the precision of the weights, not in training's."""
        model = self.accelerator.unwrap_model(self.model)
        with_autocast = model.__dict__.pop("forward", None)  # Accelerate's, once a training has begun
        self._full_precision = True
        try:
            yield
        finally:
            self._full_precision = False
            if with_autocast is not None:
                model.forward = with_autocast

    def measure(self, model: Any, batch: dict[str, torch.Tensor], indices: list[int], dataset: Any) -> Any:
        """What is kept of a batch; it travels between processes, as Python's own types."""
        raise NotImplementedError

    def summarize(self, parts: list[Any], dataset: Any) -> tuple[dict[str, float], np.ndarray]:
        """Figures of a whole set, "loss" among them, and predictions in its order."""
        raise NotImplementedError

    # ----- saving -----

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / UNFINISHED) if self._writes_aside else folder

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """
        Write a checkpoint aside and give it its name when it is whole.

        Raises:
            RecipeError: if it cannot be written.
        """
        self.check_losses()
        self.loss_window.measure()
        folder = Path(self.args.output_dir)
        final = folder / f"checkpoint-{self.state.global_step}"
        self._writes_aside = True
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self.name_checkpoint(folder / UNFINISHED / final.name, final)
            self.accelerator.wait_for_everyone()
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch raises RuntimeError when a disk is full, and when a process is gone.
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
                raise
            raise RecipeError(
                f"{final} cannot be written: {error}. The checkpoints before are whole: free some space and go on "
                "with `--resume_from_checkpoint true`."
            ) from error
        finally:
            self._writes_aside = False

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Nothing: the repository was made, and permission to write to it seen, before the training."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Nothing: `PushCallback` pushes finished checkpoints."""

    def _load_best_model(self) -> None:
        """Nothing: which weights are kept is decided after training, between the best and a mean."""

    def name_checkpoint(self, unfinished: Path, final: Path) -> None:
        """Give a whole checkpoint its name, and delete those that are not needed any more."""
        folder = final.parent
        if final.exists():
            shutil.rmtree(final)
        best = find_best([*find_checkpoints(folder), final], self.state.log_history)
        self.state.best_model_checkpoint = None if best is None else str(best)
        self.state.save_to_json(str(unfinished / TRAINER_STATE_NAME))
        if self.termination.writes_extra:
            (unfinished / EXTRA).touch()
        unfinished.rename(final)
        shutil.rmtree(unfinished.parent)
        for extra in folder.glob(f"checkpoint-*/{EXTRA}"):
            if extra.parent != final:
                shutil.rmtree(extra.parent)
        if not self.termination.writes_extra:
            rotate_checkpoints(str(folder), self.args.save_total_limit, self.state.best_model_checkpoint)

    def restore_settings(self) -> None:
        """Give model and generation configuration back what Trainer changed in them."""
        model = self.accelerator.unwrap_model(self.model)
        model.config.use_cache = self._clean_use_cache
        if self._clean_generation_config is not None:
            model.generation_config = copy.deepcopy(self._clean_generation_config)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights are stored once, and Trainer would call the other names missing.
        tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        self.restore_settings()
        super()._save(output_dir, state_dict)
        share_weights(Path(self.args.output_dir if output_dir is None else output_dir))


class RowLossTrainer(VanillaTransformerTrainer):
    """
    One whose model gives the mean loss of the rows of a batch, and not of tokens.

    Each row of a step counts the same, however many of them a device has: batches are cut by tokens, so that one of
    short texts has more rows than another.
    """

    def __init__(self, *arguments: Any, **kwargs: Any):
        super().__init__(*arguments, **kwargs)
        self.model_accepts_loss_kwargs = True  # Trainer divides no more: `compute_loss` does

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """Rows of a step, on all devices."""
        rows = torch.tensor(sum(len(batch["row"]) for batch in batch_samples), device=device)
        count: torch.Tensor = self.accelerator.reduce(rows, reduction="sum")
        return count

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """The share of a batch in the mean loss of the step's rows, times the devices, over which it is averaged."""
        outputs = model(**inputs)
        loss = outputs.loss
        if num_items_in_batch is not None:
            loss = loss * len(inputs["input_ids"]) * self.args.world_size / num_items_in_batch
        return (loss, outputs) if return_outputs else loss
