"""`Seq2SeqTrainer` with token-budget batches, the paper's schedule, and evaluation per token and by real decoding."""

import copy
import sys
import time
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import gather_object
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import DataCollatorForSeq2Seq, ProgressCallback, Seq2SeqTrainer, TrainerCallback, TrainerControl
from transformers.trainer_utils import EvalLoopOutput

from training.arguments import RecipeError, TrainingArguments
from training.batching import TokenBudgetBatchSampler
from training.data import lengths
from training.metrics import corpus_bleu, perplexity
from training.optimization import noam_schedule
from vanilla_transformer import VanillaTransformerForConditionalGeneration, VanillaTransformerTokenizer
from vanilla_transformer.modeling_vanilla_transformer import IGNORED_LABEL

# Decoding keeps scores of the whole vocabulary for each beam, so that its batches are smaller than training's.
EVALUATION_TOKENS = 4096


class VanillaTransformerTrainer(Seq2SeqTrainer):
    """
    Train and evaluate a translation model on data sets that `training.data.encode` made.

    Args:
        model, args, train_dataset, eval_dataset, callbacks: as in `Seq2SeqTrainer`.
        processing_class: the tokenizer.
    """

    args: TrainingArguments
    lr_scheduler: LRScheduler | None
    control: TrainerControl

    def __init__(
        self,
        model: VanillaTransformerForConditionalGeneration,
        args: TrainingArguments,
        train_dataset: datasets.Dataset | None = None,
        eval_dataset: datasets.Dataset | None = None,
        processing_class: VanillaTransformerTokenizer | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ):
        # Trainer switches the cache off and writes defaults into the generation settings; both must not be saved.
        self._clean_use_cache = model.config.use_cache
        self._clean_generation_config = copy.deepcopy(model.generation_config)
        self.collator = DataCollatorForSeq2Seq(processing_class, label_pad_token_id=IGNORED_LABEL)
        if args.noam:
            args.learning_rate = 1.0  # the schedule gives absolute rates
        super().__init__(
            model=model,
            args=args,
            data_collator=self.collate,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        self.train_sampler: TokenBudgetBatchSampler | None = None
        self.bleu_signature: str | None = None  # of the last evaluation
        self._tokens = torch.zeros((), dtype=torch.long, device=self.args.device)
        self._tokens_since = time.perf_counter()
        self.remove_callback(ProgressCallback)
        self.add_callback(EpochCallback(self))
        if not args.disable_tqdm:
            self.add_callback(TrainingProgressCallback())

    # ----- batches -----

    def collate(self, pairs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad pairs to tensors: input_ids and attention_mask (B, S), labels (B, T) with -100 for padding."""
        return self.collator([{"input_ids": pair["input_ids"], "labels": pair["labels"]} for pair in pairs])

    def get_train_dataloader(self) -> DataLoader:
        source_lengths, target_lengths = lengths(self.train_dataset)
        self.train_sampler = TokenBudgetBatchSampler(
            source_lengths,
            target_lengths,
            batch_budget(self.args),
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
            # The batches of a step are the same however they are shared by processes and accumulation.
            group_size=self.args.world_size * self.args.gradient_accumulation_steps,
        )
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.train_sampler,
            collate_fn=self.collate,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            persistent_workers=self.args.dataloader_persistent_workers,
        )
        return self.accelerator.prepare(loader)

    def get_eval_dataloader(self, eval_dataset: datasets.Dataset | None = None) -> DataLoader:
        """This process's share of the batches, every sentence once over all processes."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        source_lengths, target_lengths = lengths(dataset)
        longest = int(max(source_lengths.max(), target_lengths.max()))
        batches = list(
            TokenBudgetBatchSampler(source_lengths, target_lengths, max(EVALUATION_TOKENS, longest), shuffle=False)
        )
        share = batches[self.args.process_index :: self.args.world_size]
        indexed = dataset.add_column("index", np.arange(len(dataset)))

        def collate(pairs: list[dict[str, Any]]) -> dict[str, Any]:
            return {**self.collate(pairs), "index": [pair["index"] for pair in pairs]}

        # With a generator of its own it draws nothing from training's, which a resumed run would miss.
        return DataLoader(indexed, batch_sampler=share, collate_fn=collate, generator=torch.Generator())

    get_test_dataloader = get_eval_dataloader

    # ----- optimization -----

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        if not self.args.noam:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = noam_schedule(
                self.optimizer if optimizer is None else optimizer,
                self.model.config.hidden_size,
                self.args.warmup_steps,
                self.args.noam_scale,
            )
        return self.lr_scheduler

    def training_step(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any) -> torch.Tensor:
        real = inputs["attention_mask"].sum() + (inputs["labels"] != IGNORED_LABEL).sum()
        self._tokens += real.to(self._tokens.device)
        return super().training_step(model, inputs, *args)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the speed since the last log: source and target tokens per second, padding not counted."""
        if "loss" in logs:
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
        """
        Negative log-likelihood per target token (with `</s>`, without smoothing) over the whole set, its exponential,
        and BLEU of what `generate` makes of the sources. The predictions are texts, in the order of the data set.
        """
        model = self.accelerator.unwrap_model(self.model)
        model.eval()
        decode = self.args.predict_with_generate  # Trainer asks for the loss alone since it has no `compute_metrics`
        beams = {} if self.args.generation_num_beams is None else {"num_beams": self.args.generation_num_beams}
        summed = torch.zeros(2, dtype=torch.float64)  # log-loss, tokens
        decoded: list[tuple[int, str, str]] = []
        dataset: Any = dataloader.dataset
        self.callback_handler.eval_dataloader = dataloader  # its length is that of the progress bar
        for batch in dataloader:
            indices = batch.pop("index")
            batch = self._prepare_inputs(batch)
            with torch.no_grad(), self.compute_loss_context_manager():
                count = (batch["labels"] != IGNORED_LABEL).sum()
                mean = model(**batch).loss
                summed += torch.tensor([mean.item() * count.item(), count.item()], dtype=torch.float64)
                if decode:
                    generated = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **beams)
            if decode:
                texts = self.processing_class.batch_decode(generated, skip_special_tokens=True)
                references = dataset[indices]["target"]
                decoded += list(zip(indices, texts, references, strict=True))
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        # Batches were dealt out whole, none twice: sums and texts of all processes make the whole set.
        log_loss, tokens = np.sum(gather_object([summed.tolist()]), axis=0)
        everything = sorted(gather_object(decoded))
        metrics = {"loss": log_loss / tokens, "perplexity": perplexity(log_loss / tokens)}
        texts = [text for _, text, _ in everything]
        if decode:
            references = [reference for _, _, reference in everything]
            bleu = corpus_bleu(texts, references, self.args.bleu_tokenize)
            self.bleu_signature = bleu.signature
            metrics["bleu"] = bleu.score
        self.restart_clock()
        return EvalLoopOutput(
            predictions=np.array(texts, dtype=object),
            label_ids=None,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(dataset),
        )

    # ----- saving -----

    def restore_settings(self) -> None:
        """Give model and generation configuration back what Trainer changed in them."""
        model = self.accelerator.unwrap_model(self.model)
        model.config.use_cache = self._clean_use_cache
        model.generation_config = copy.deepcopy(self._clean_generation_config)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights are stored once, and Trainer would call the other names missing.
        tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        self.restore_settings()
        super()._save(output_dir, state_dict)


class EpochCallback(TrainerCallback):
    """Tells the sampler the epoch. Trainer does not reach it through Accelerate's wrappers after a resume."""

    def __init__(self, trainer: VanillaTransformerTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.train_sampler is not None:
            self.trainer.train_sampler.set_epoch(int((state.epoch or 0) + 1e-6))
        self.trainer.restart_clock()


class TrainingProgressCallback(ProgressCallback):
    """One bar with loss, learning rate and speed, and a line for each evaluation; lines alone where no one watches."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps, initial=state.global_step, dynamic_ncols=True, disable=not sys.stderr.isatty()
            )
        self.current_step = state.global_step

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if sys.stderr.isatty():
            super().on_prediction_step(args, state, control, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or self.training_bar is None or logs is None:
            return
        if "loss" in logs:
            speed = f"{logs['tokens_per_second']:,.0f} tokens/s"
            shown = f"loss {logs['loss']:.3f}, lr {logs['learning_rate']:.2e}, {speed}"
            self.training_bar.set_postfix_str(shown)
            if self.training_bar.disable:
                tqdm.write(f"step {state.global_step:,}: {shown}")
        elif "eval_loss" in logs:
            line = f"step {state.global_step:,}: validation NLL {logs['eval_loss']:.4f}"
            line += f", perplexity {logs['eval_perplexity']:.2f}"
            if "eval_bleu" in logs:
                line += f", BLEU {logs['eval_bleu']:.2f}"
            tqdm.write(line)


def derive_accumulation(args: TrainingArguments) -> str:
    """
    Set `gradient_accumulation_steps` so that all processes together take `tokens_per_step` in a step.

    Returns:
        a line that shows the arithmetic, such as `25,000 = 2 processes x 3,125 x 4`.

    Raises:
        RecipeError: if the processes alone are more than a step holds.
    """
    world = args.world_size
    if args.tokens_per_step < world:
        raise RecipeError(f"`tokens_per_step` is {args.tokens_per_step} for {world} processes. Raise it.")
    share = args.tokens_per_step / world
    args.gradient_accumulation_steps = 1
    if args.tokens_per_device is not None:
        args.gradient_accumulation_steps = max(1, int(np.ceil(share / args.tokens_per_device)))
    accumulation = args.gradient_accumulation_steps
    processes = f"{world} process{'es' if world > 1 else ''}"
    return f"{args.tokens_per_step:,} = {processes} x {batch_budget(args):,} x {accumulation}"


def batch_budget(args: TrainingArguments) -> int:
    """Tokens of either side in one batch of one process."""
    return args.tokens_per_step // (args.world_size * args.gradient_accumulation_steps)
