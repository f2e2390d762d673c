"""The weights of other implementations: read without running code, each used once or named."""

import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import ConversionError
from ..text import read_json

NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class Weights:
    """
    Tensors of a source, in float32, from which a conversion takes one after the other.

    Args:
        tensors: by name.
        place: what to call the source in an error.
    """

    def __init__(self, tensors: dict[str, torch.Tensor], place: str):
        self.rest, self.place = dict(tensors), place

    def take(self, *names: str) -> torch.Tensor:
        """
        The tensor of these names, of which the source has one or more.

        Raises:
            ConversionError: if it has none of them, or tensors that are not the same.
        """
        found = {name: self.rest.pop(name) for name in names if name in self.rest}
        if not found:
            raise ConversionError(f"The weights in {self.place} lack {names[0]}. Copy them again.")
        (first, tensor), *others = found.items()
        for name, other in others:
            if not torch.equal(tensor, other):
                raise ConversionError(
                    f"{first} and {name} in {self.place} must be the same by its configuration, but differ. Name the "
                    "model as it was published."
                )
        return tensor.to(torch.float32)

    def leave(self, names: Iterable[str]) -> None:
        """Leave out tensors that nothing reads."""
        for name in names:
            self.rest.pop(name, None)

    def check_all_taken(self) -> None:
        """
        Raises:
            ConversionError: naming a tensor that would be lost.
        """
        if self.rest:
            raise ConversionError(
                f"The weights in {self.place} have {len(self.rest)} tensors that this package lacks, such as "
                f"{min(self.rest)}: the architecture is another one, and an import would not be exact."
            )


@contextmanager
def damage_in_words(file: Path) -> Iterator[None]:
    """Say of whatever reading a file raises that it is damaged; a pickle with code is refused."""
    try:
        yield
    except ConversionError:
        raise
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{file} holds more than weights, as a pickle with code does, and is not loaded. Get the weights as "
            "model.safetensors, or from another place."
        ) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, IndexError, KeyError, EOFError, TypeError) as error:
        said = str(error).strip().partition("\n")[0][:100].removesuffix(".")
        raise ConversionError(f"{file} is damaged: {type(error).__name__}: {said}. Copy the weights again.") from error


def read_pickle(file: Path, known: tuple[type, ...] = ()) -> Any:
    """
    Return the content of a file of torch.

    Args:
        known: classes that may be in it besides tensors and plain values.

    Raises:
        ConversionError: if it is damaged, or would run code.
    """
    with damage_in_words(file), torch.serialization.safe_globals(list(known)):
        return torch.load(file, map_location="cpu", weights_only=True)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """
    The tensors in a folder as `save_pretrained` writes them, in one file or several.

    Raises:
        ConversionError: if there are none, or a file is damaged or would run code.
    """
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        raise ConversionError(f"{folder} has no {NAMES[0]} and no {NAMES[2]}. Name a folder with weights.")
    files = [file]
    if file.suffix == ".json":
        with damage_in_words(file):
            index = read_json(file)
            files = [folder / name for name in sorted(set(index["weight_map"].values()))]
    tensors: dict[str, torch.Tensor] = {}
    for part in files:
        with damage_in_words(part):
            tensors |= load_file(part) if part.suffix == ".safetensors" else read_pickle(part)
    return tensors


def fill(model: nn.Module, taken: dict[str, torch.Tensor], place: str) -> None:
    """
    Give a model its weights.

    Raises:
        ConversionError: if one is missing, has no place or another shape; it is named.
    """
    parameters = dict(model.named_parameters())
    for name in sorted(set(parameters) ^ set(taken)):
        said = "lack" if name in parameters else "have besides what its configuration says"
        raise ConversionError(f"The weights in {place} {said} {name}. Copy the folder again.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != taken[name].shape:
                raise ConversionError(
                    f"{name} in {place} must be {tuple(parameter.shape)} by its configuration, but is "
                    f"{tuple(taken[name].shape)}."
                )
            parameter.copy_(taken[name])
