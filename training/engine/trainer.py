"""`Seq2SeqTrainer` with token-budget batches, the paper's schedule, whole checkpoints and evaluation of whole sets."""

import copy
import math
from functools import partial
from pathlib import Path

import datasets
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from transformers import ProgressCallback, TrainerControl
from transformers.trainer_utils import EvalLoopOutput
from transformers.utils import ModelOutput

from training.data.batching import Draw, StepPlan, TokenBudgetBatchSampler
from training.data.encoding import has_weights, lengths
from training.data.parallel import read_numbers
from training.engine.arguments import TrainingArguments, cpu_emulates_bf16
from training.engine.callbacks import (
    EpochCallback,
    LossWindowCallback,
    PatienceCallback,
    StopwatchCallback,
    TerminationCallback,
    TokenClock,
    TrainingProgressCallback,
)
from training.engine.evaluate import Evaluator, explain_memory
from training.engine.guards import GradientGuard
from training.engine.memory import FreedMemoryCallback
from training.engine.objective import AnyObjective, Batch, Generation, Row, measure_together
from training.engine.optimization import count_decay_steps, noam_schedule
from training.engine.plain import PlainTrainer
from training.engine.writer import CheckpointWriter
from training.log import logger
from vanilla_transformer import VanillaTransformerPreTrainedModel, VanillaTransformerTokenizer
from vanilla_transformer.configuration_vanilla_transformer import IGNORED_LABEL
from vanilla_transformer.errors import RecipeError
from vanilla_transformer.loading import share_weights


class VanillaTransformerTrainer(PlainTrainer):
    """
    Train a model on data sets with the columns `row`, `source_length` and `target_length` beside those of the task.

    Args:
        model, args, train_dataset, eval_dataset: as in `Seq2SeqTrainer`.
        objective: how rows make a batch, and what is measured.
        processing_class: the tokenizer.
        plan: how steps are dealt out; without it what `args` say.

    Attributes:
        evaluator: measures data sets with the model.
        writer: of checkpoints.
        train_sampler: the steps of an epoch; none without a training text.
        stopwatch, termination: how long the training took, and whether SIGTERM ended it.
        guard: watches the gradients.
    """

    args: TrainingArguments
    model: VanillaTransformerPreTrainedModel
    processing_class: VanillaTransformerTokenizer
    train_dataset: datasets.Dataset
    eval_dataset: datasets.Dataset
    optimizer: torch.optim.Optimizer
    objective: AnyObjective
    control: TrainerControl

    def __init__(
        self,
        model: VanillaTransformerPreTrainedModel,
        args: TrainingArguments,
        objective: AnyObjective,
        train_dataset: datasets.Dataset | None = None,
        eval_dataset: datasets.Dataset | None = None,
        processing_class: VanillaTransformerTokenizer | None = None,
        plan: StepPlan | None = None,
    ):
        # Trainer switches the cache off and writes defaults into the generation settings; both must not be saved.
        self._clean_use_cache = model.config.use_cache
        self._clean_generation_config = copy.deepcopy(getattr(model, "generation_config", None))
        self.objective = objective
        self.plan = plan or StepPlan(args.recipe.tokens_per_step, args.world_size, args.gradient_accumulation_steps)
        args.gradient_accumulation_steps = self.plan.accumulation
        if args.bf16 and args.use_cpu and model.config._attn_implementation == "sdpa":
            # Measured: torch's fused attention is ten times slower backwards in bfloat16 than in float32 on a CPU, and
            # the plain one is as fast as that.
            model.set_attn_implementation("eager")
        if args.bf16 and args.use_cpu and cpu_emulates_bf16():
            logger.info(
                "`bf16` is true, but torch has no fast bfloat16 on this CPU: a step takes many times as long as in "
                "float32. Set it to false."
            )
        objective.prepare(model)
        super().__init__(
            model=model,
            args=args,
            data_collator=objective.collate,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
        )
        if objective.loss_unit == "row":
            self.model_accepts_loss_kwargs = True  # Trainer divides no more: `compute_loss` does
        self.train_sampler = None if train_dataset is None else self.make_train_sampler()
        self.evaluator = Evaluator(
            self.model, self.accelerator, objective, args.recipe.tokens_per_device, not args.disable_tqdm
        )
        self.writer = CheckpointWriter(args.output_dir, args.save_total_limit)
        self._clock = TokenClock(args.device)
        self._loss_window, self.stopwatch = LossWindowCallback(), StopwatchCallback()
        self.termination = TerminationCallback(self.accelerator)
        self.guard = GradientGuard(args.recipe.skip_non_finite, args.fp16)
        self.remove_callback(ProgressCallback)
        for callback in (
            self.stopwatch,
            EpochCallback(self.train_sampler, self._clock),
            self._loss_window,
            PatienceCallback(args.recipe.patience),
            self.termination,
            FreedMemoryCallback(),
            self.guard,
        ):
            self.add_callback(callback)
        if not args.disable_tqdm:
            self.add_callback(TrainingProgressCallback())

    # ----- batches -----

    def make_train_sampler(self) -> TokenBudgetBatchSampler:
        """Return the steps of an epoch, in batches for every process and accumulation."""
        dataset = self.train_dataset
        measure = partial(measure_together, self.objective, dataset) if self.objective.shows_other_text() else None
        seed, batches = self.args.recipe.data_order_seed, self.plan.batches
        if has_weights(dataset):
            draw = Draw(read_numbers(dataset, "weight"), *lengths(dataset), seed)
            return draw.make_sampler(self.plan.tokens, batches, measure)
        return TokenBudgetBatchSampler(
            *lengths(dataset), self.plan.tokens, seed=seed, batches_per_step=batches, measure=measure
        )

    def collate_share(self, rows: list[Row]) -> Batch:
        """
        Make a batch to learn from, with the numbers of its rows, for messages: `row` (B,).

        Without rows it is a batch whose `row` is empty and whose loss does not count. A process without a sentence of
        a step computes one all the same: the others wait for its gradients.
        """
        epoch = 0 if self.train_sampler is None else self.train_sampler.epoch
        batch = self.objective.collate_training(rows or [self.train_dataset[0]], epoch)
        return {**batch, "row": torch.tensor([row["row"] for row in rows], dtype=torch.long)}

    def get_train_dataloader(self) -> DataLoader:
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.train_sampler,
            collate_fn=self.collate_share,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: datasets.Dataset | None = None) -> DataLoader:
        return self.evaluator.make_loader(eval_dataset if eval_dataset is not None else self.eval_dataset)

    get_test_dataloader = get_eval_dataloader  # type: ignore[assignment]

    # ----- optimization -----

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        if not self.args.recipe.noam:
            try:
                return super().create_scheduler(num_training_steps, optimizer)
            except (TypeError, ValueError) as error:  # some need settings of their own, or take none
                raise RecipeError(
                    "`lr_scheduler_kwargs` must fit `lr_scheduler_type` "
                    f"{self.args.lr_scheduler_type.value}, but is {self.args.lr_scheduler_kwargs or '{}'}: {error}"
                ) from error
        if self.lr_scheduler is None:
            self.lr_scheduler = noam_schedule(
                self.optimizer if optimizer is None else optimizer,
                self.model.config.hidden_size,
                self.args.warmup_steps,
                self.args.recipe.noam_scale,
                num_training_steps,
                count_decay_steps(self.args.recipe.decay_steps, num_training_steps),
            )
        return self.lr_scheduler

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor | int | None:
        """Count what the loss of a step is the mean of, on all devices, without batches that do not count."""
        if self.objective.loss_unit == "row":
            rows = torch.tensor(sum(len(batch["row"]) for batch in batch_samples), device=device)
            return self.accelerator.reduce(rows, reduction="sum")
        counted = [
            {"labels": batch["labels"] if len(batch["row"]) else torch.full_like(batch["labels"], IGNORED_LABEL)}
            for batch in batch_samples
        ]
        return super()._get_num_items_in_batch(counted, device)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, ModelOutput]:
        """Of losses by rows: the share of a batch in the mean of the step, times the devices, which are averaged."""
        if self.objective.loss_unit == "token":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        outputs = model(**inputs)
        loss = outputs.loss
        if num_items_in_batch is not None:
            loss = loss * len(inputs["input_ids"]) * self.args.world_size / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def training_step(
        self, model: torch.nn.Module, inputs: Batch, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        if (window := self._loss_window.take_saved()) is not None:
            self._tr_loss += torch.tensor(window.total)
            self._globalstep_last_logged = window.last_logged
        rows = inputs.pop("row")
        if len(rows):
            self._clock.count(self.objective.count_tokens(inputs))
        else:
            num_items_in_batch = torch.as_tensor(num_items_in_batch) * math.inf  # of which its loss is a share of 0
        try:
            loss = super().training_step(model, inputs, num_items_in_batch)
        except RuntimeError as error:
            kept = "accumulation keeps the step as it is, but no training input may be longer"
            explain_memory(error, inputs, self.plan.batch_tokens, f": {kept}")
            raise
        self.guard.take_loss(self.state.global_step + 1, rows, loss)
        return loss

    def _get_grad_norm(
        self, model: torch.nn.Module, grad_norm: torch.Tensor | float | None = None
    ) -> torch.Tensor | float:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.guard.take(norm)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the speed since the last log: source and target tokens per second, padding not counted."""
        if "loss" in logs:
            self.guard.check()
            if not math.isfinite(logs.get("grad_norm", 0.0)):  # of a step that was skipped
                del logs["grad_norm"]
            logs["tokens_per_second"] = round(self._clock.measure(self.accelerator), 1)
        super().log(logs, start_time)

    # ----- evaluation -----

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate in training: in its precision, and with the beams that the recipe asks for."""
        generation: Generation | None = None
        if self.objective.decodes and self.args.predict_with_generate:
            beams = self.args.generation_num_beams
            generation = {} if beams is None else {"num_beams": beams}
        evaluation = self.evaluator.validate(dataloader, generation)
        self._clock.restart()
        return EvalLoopOutput(
            predictions=evaluation.predictions,
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in evaluation.metrics.items()},
            num_samples=len(dataloader.dataset),  # type: ignore[arg-type]
        )

    # ----- saving -----

    def _get_output_dir(self, trial: object) -> str:
        return self.writer.place(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        """Write a checkpoint aside and give it its name when it is whole."""
        self.guard.check()
        sums = self.accelerator.gather(self._tr_loss.reshape(1))
        self._loss_window.keep(sums.mean().item(), self._globalstep_last_logged)
        with self.writer.write(self.state.global_step):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self.writer.finish(self.state, self.termination.writes_extra)
            self.accelerator.wait_for_everyone()

    def restore_settings(self) -> None:
        """Give model and generation configuration back what Trainer changed in them."""
        model = self.accelerator.unwrap_model(self.model)
        model.config.use_cache = self._clean_use_cache
        if self._clean_generation_config is not None:
            model.generation_config = copy.deepcopy(self._clean_generation_config)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        self.restore_settings()
        super()._save(output_dir, state_dict)
        share_weights(Path(self.args.output_dir if output_dir is None else output_dir))
