"""The mean of several checkpoints (§6.1)."""

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.engine.checkpoints import WEIGHTS
from vanilla_transformer.errors import RecipeError


def average_weights(checkpoints: list[Path]) -> dict[str, torch.Tensor]:
    """
    The mean of each tensor, summed in float64.

    Args:
        checkpoints: folders with a `model.safetensors`; at least one. Tied weights are stored once and stay tied.

    Raises:
        RecipeError: if a folder has no weights, or tensors of other names or shapes than the first.
    """
    if not checkpoints:
        raise RecipeError("No checkpoints to average. Name at least one folder with a model.safetensors.")
    total: dict[str, torch.Tensor] = {}
    for folder in checkpoints:
        try:
            weights = load_file(folder / WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise RecipeError(f"{folder / WEIGHTS} cannot be read: {error}. Leave this checkpoint out.") from error
        shapes = {name: tensor.shape for name, tensor in weights.items()}
        if total and shapes != {name: tensor.shape for name, tensor in total.items()}:
            raise RecipeError(f"{folder} holds another model than {checkpoints[0]}. Average checkpoints of one run.")
        for name, tensor in weights.items():
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    return {name: (tensor / len(checkpoints)).float() for name, tensor in total.items()}


def write_mean(checkpoints: list[Path], output: Path) -> None:
    """
    Write the mean of checkpoints to a folder, with the last one's files that belong to a model.

    Raises:
        RecipeError: as `average_weights`, and for a folder that cannot be, that holds a model already, or whose last
            checkpoint has no configuration.
    """
    if output.resolve() in [folder.resolve() for folder in checkpoints]:
        raise RecipeError(f"`--output` must not be one of the checkpoints, but is {output}. Name another folder.")
    if output.exists() and not output.is_dir():
        raise RecipeError(f"`--output` must be a folder, but is {output}, a file. Name another.")
    if (output / WEIGHTS).exists():
        raise RecipeError(f"`--output` must not hold a model, but {output} does. Name another folder, or delete it.")
    if not (checkpoints[-1] / "config.json").is_file():
        raise RecipeError(
            f"{checkpoints[-1]} has no config.json, which the mean takes from it. Name a whole one last."
        )
    weights = average_weights(checkpoints)
    unfinished = output / f"{WEIGHTS}.unfinished"
    try:
        output.mkdir(parents=True, exist_ok=True)
        for file in checkpoints[-1].iterdir():
            # The files of a model, and nothing of the training run.
            if file.suffix in (".json", ".py") and file.name != "trainer_state.json":
                shutil.copy(file, output)
        save_file(weights, unfinished, metadata={"format": "pt"})
        shutil.copymode(output / "config.json", unfinished)
        unfinished.replace(output / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RecipeError(f"{output} cannot be written: {error}.") from error
    finally:
        if unfinished.is_file():
            unfinished.unlink()
