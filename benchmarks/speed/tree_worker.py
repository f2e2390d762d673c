"""
The work of `benchmarks.speed.trees`, in a process that has the package of one tree: CPU seconds of whole calls.

It is run as a file and imports nothing of its own tree, so that it works for any state of the package.
"""

import json
import os
import runpy
import sys
import time

import torch
import transformers
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import PreTrainedModel

PADDING, END = 1, 2


def build(name: str) -> PreTrainedModel:
    """The model in a folder, or one of random weights in a shape of the paper's, which never ends a sentence."""
    from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration

    if name not in ("tiny", "base"):
        return VanillaTransformerForConditionalGeneration.from_pretrained(name).eval()
    torch.manual_seed(0)
    config = VanillaTransformerConfig.from_preset(name, vocab_size=37000 if name == "base" else 10000)
    model = VanillaTransformerForConditionalGeneration(config).eval()
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):  # the same in two trees that build it in another order
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.02)
        model.lm_head.weight[END] = 0.0  # a logit of 0, which is never the highest of many
    return model


def translate(model: PreTrainedModel, batches: list[list[list[int]]], settings: dict[str, float]) -> dict[str, object]:
    """Translate batches of source ids."""
    seconds, tokens = 0.0, []
    for rows in batches:
        ids = torch.tensor(rows)
        started = time.process_time()
        output = model.generate(input_ids=ids, attention_mask=(ids != PADDING).long(), **settings)
        seconds += time.process_time() - started
        tokens += output[:, 1:].tolist()
    return {"seconds": seconds, "output": tokens}


def train(model: PreTrainedModel, batches: list[list[list[int]]], learning_rate: float) -> dict[str, object]:
    """Forward, backward and Adam; the sources are their own targets."""
    torch.manual_seed(0)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), eps=1e-9, fused=True)
    losses = []
    started = time.process_time()
    for rows in batches:
        ids = torch.tensor(rows)
        labels = ids.masked_fill(ids == PADDING, -100)
        loss = model(input_ids=ids, attention_mask=(ids != PADDING).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.process_time() - started
    model.eval()
    return {"seconds": seconds, "output": losses}


def serve() -> None:
    """Answer a line of standard input with a line, until there are no more."""
    models: dict[str, PreTrainedModel] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["work"] == "version":
            print("ANSWER " + json.dumps({"transformers": transformers.__version__}), flush=True)
            continue
        name = request["model"]
        key = f"marian {name}" if request.get("is_marian") else name
        if key not in models:
            models[key] = build(name)
            if request.get("is_marian"):
                from vanilla_transformer.conversion.marian import to_marian

                models[key] = to_marian(models[key]).eval()
        if request["work"] == "translate":
            found = translate(models[key], request["batches"], request["settings"])
        else:
            found = train(models[key], request["batches"], learning_rate=0.0)  # every turn does the same
        print("ANSWER " + json.dumps(found), flush=True)


def run_program(steps: int, arguments: list[str]) -> None:
    """Run the tree's training program for some steps of its optimizer, and print the CPU seconds at each."""
    times: list[float] = []

    def note(*_: object) -> None:
        times.append(time.process_time())
        if len(times) == steps:  # what comes after training is not measured
            print("ANSWER " + json.dumps({"times": times}), flush=True)
            os._exit(0)

    register_optimizer_step_post_hook(note)
    sys.argv = ["training.train", *arguments]
    runpy.run_module("training.train", run_name="__main__")


if __name__ == "__main__":
    run_program(int(sys.argv[2]), sys.argv[3:]) if sys.argv[1:2] == ["--program"] else serve()
