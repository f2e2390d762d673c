"""`Seq2SeqTrainer` without what this program does in another way: the Hub, the best model, random states, messages."""

from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainer, set_seed

from training.engine.checkpoints import count_processes


class PlainTrainer(Seq2SeqTrainer):
    """A trainer that leaves the Hub and the choice of weights to others, and goes on in any number of processes."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None and count_processes(Path(checkpoint)) != self.args.world_size:
            # The draws of one process do not continue in several: begin with a seed that no step before had.
            set_seed((self.args.seed + self.state.global_step) % 2**32)
        else:
            super()._load_rng_state(checkpoint)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make no repository: that was done, and permission to write to it checked, before the training."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push nothing: `PushCallback` pushes finished checkpoints."""

    def _load_best_model(self) -> None:
        """Load nothing: which weights are kept is decided after training, between the best and a mean."""

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Tied weights are stored once, and Trainer would call the other names missing.
        tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
        missing = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=missing))
