"""How a model is trained: start, steps, checkpoints and evaluation."""
