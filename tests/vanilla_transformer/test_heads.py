"""The heads on one stack or both: what they load from each other, learn, see and refuse."""

import itertools
import json

import pytest
import torch
from transformers import AutoModel, GenerationConfig, pipeline

import vanilla_transformer
from vanilla_transformer import (
    VanillaTransformerEncoderModel,
    VanillaTransformerForCausalLM,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerForMaskedLM,
    VanillaTransformerForQuestionAnswering,
    VanillaTransformerForSequenceClassification,
    VanillaTransformerForTokenClassification,
    VanillaTransformerModel,
)
from vanilla_transformer.kernels_vanilla_transformer import label_smoothed_loss

# The parameters of each class besides the matrix that all share.
PARTS = {
    VanillaTransformerModel: {"encoder", "decoder", "cross"},
    VanillaTransformerForConditionalGeneration: {"encoder", "decoder", "cross"},
    VanillaTransformerForCausalLM: {"decoder"},
    VanillaTransformerEncoderModel: {"encoder"},
    VanillaTransformerForMaskedLM: {"encoder"},
    VanillaTransformerForSequenceClassification: {"encoder", "classifier"},
    VanillaTransformerForTokenClassification: {"encoder", "classifier"},
    VanillaTransformerForQuestionAnswering: {"encoder", "qa_outputs"},
}
HEADS = list(PARTS)
CLASSIFIERS = [head for head in HEADS if PARTS[head] - {"encoder", "decoder", "cross"}]


def part_of(key: str) -> str:
    """Which part of a model a weight belongs to."""
    if "encoder_attn" in key:
        return "cross"
    return key.removeprefix("model.").partition(".")[0]


@pytest.fixture
def folders(small_config, tmp_path):
    """Every head saved, with weights of its own."""
    for number, head in enumerate(HEADS):
        torch.manual_seed(number)
        head(small_config(num_labels=3)).save_pretrained(tmp_path / head.__name__)
    return tmp_path


def test_every_head_loads_from_every_other_with_only_the_new_keys(folders):
    for written, read in itertools.product(HEADS, HEADS):
        model, info = read.from_pretrained(folders / written.__name__, output_loading_info=True)
        case = f"{written.__name__} -> {read.__name__}"
        # The model without a head has the stacks that the folder has.
        new_parts = set() if read is VanillaTransformerModel else PARTS[read] - PARTS[written]
        assert {part_of(key) for key in info["missing_keys"]} == new_parts, case
        assert {part_of(key) for key in info["unexpected_keys"]} <= {"classifier", "qa_outputs"}, case
        source = written.from_pretrained(folders / written.__name__).state_dict()
        bare = {key.removeprefix("model."): tensor for key, tensor in source.items()}
        new = set(info["missing_keys"])
        carried = [key for key in model.state_dict() if key not in new and key.removeprefix("model.") in bare]
        assert carried, case
        for key in carried:
            assert torch.equal(model.state_dict()[key], bare[key.removeprefix("model.")]), f"{case}: {key}"


def test_auto_model_is_what_the_folder_holds(folders):
    ids = torch.tensor([[5, 6, 2]])
    for head, parts in PARTS.items():
        model = AutoModel.from_pretrained(folders / head.__name__)
        assert (model.encoder is not None, model.decoder is not None) == ("encoder" in parts, "decoder" in parts)
        if not {"encoder", "decoder"} <= parts:
            assert model(ids).last_hidden_state.shape == (1, 3, 32)


@pytest.mark.parametrize("tied", [True, False])
def test_through_the_causal_head_and_back(small_config, batch, tmp_path, tied):
    torch.manual_seed(0)
    first = VanillaTransformerForConditionalGeneration(small_config(tie_word_embeddings=tied)).eval()
    first.generation_config.num_beams = 3
    first.save_pretrained(tmp_path / "first")
    causal = VanillaTransformerForCausalLM.from_pretrained(tmp_path / "first")
    assert causal.generation_config.num_beams in (None, 1) and causal.config.decoder_layers == 3
    assert not any("encoder" in key for key in causal.state_dict())
    causal.generation_config.max_new_tokens = 7
    causal.save_pretrained(tmp_path / "causal")
    again, info = VanillaTransformerForConditionalGeneration.from_pretrained(
        tmp_path / "causal", output_loading_info=True
    )
    # The tensors that the causal head lacks come from the first; all others have come through.
    new = {key: tensor for key, tensor in first.state_dict().items() if key in info["missing_keys"]}
    again.load_state_dict(new, strict=False)
    for key, tensor in first.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    # The settings of the causal head are not those of one that translates, which starts from the paper's.
    assert again.generation_config.to_diff_dict() == again.default_generation_config(again.config).to_diff_dict()
    again.generation_config.num_beams = 3
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert torch.equal(again.eval().generate(**inputs), first.generate(**inputs))


def test_settings_of_a_user_survive_saving(small_config, tmp_path):
    for head in (VanillaTransformerForCausalLM, VanillaTransformerForConditionalGeneration):
        model = head(small_config())
        model.generation_config = GenerationConfig(num_beams=2, max_new_tokens=9, pad_token_id=1, eos_token_id=2)
        model.save_pretrained(tmp_path)
        loaded = head.from_pretrained(tmp_path).generation_config
        assert (loaded.num_beams, loaded.max_new_tokens) == (2, 9)
        # Those given to the call, and a file that somebody wrote.
        given = head.from_pretrained(tmp_path, generation_config=GenerationConfig(top_k=7, max_new_tokens=50))
        assert (given.generation_config.top_k, given.generation_config.max_new_tokens) == (7, 50)
        GenerationConfig(num_beams=5).save_pretrained(tmp_path)
        assert head.from_pretrained(tmp_path).generation_config.num_beams == 5


def test_a_folder_holds_the_settings_of_the_head_that_wrote_it(small_config, tmp_path):
    first = VanillaTransformerForConditionalGeneration(small_config())
    first.generation_config.num_beams = 3
    first.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["num_beams"] == 3 and saved["decoder_only"] is False
    saved["other_head"] = {"max_new_tokens": 7}  # as earlier versions wrote
    path.write_text(json.dumps(saved), encoding="utf-8")
    again = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path).generation_config
    assert again.num_beams == 3 and not {"other_head", "decoder_only"} & set(again.to_dict())
    causal = VanillaTransformerForCausalLM.from_pretrained(tmp_path)
    assert causal.generation_config.num_beams in (None, 1) and causal.generation_config.max_new_tokens is None
    causal.generation_config = GenerationConfig(max_new_tokens=5)
    causal.save_pretrained(tmp_path)
    assert VanillaTransformerForCausalLM.from_pretrained(tmp_path).generation_config.max_new_tokens == 5
    settings = VanillaTransformerForConditionalGeneration.from_pretrained(tmp_path).generation_config
    assert (settings.num_beams, settings.length_penalty_type, settings.max_new_tokens) == (4, "gnmt", None)


def test_a_translator_made_from_another_head_decodes_as_the_paper(folders):
    for head in HEADS:
        settings = VanillaTransformerForConditionalGeneration.from_pretrained(
            folders / head.__name__
        ).generation_config
        assert (settings.num_beams, settings.length_penalty_type, settings.source_length_offset) == (4, "gnmt", 50)


def test_weights_that_find_no_place_are_reported(small_config, tmp_path):
    for head, depth in (
        (VanillaTransformerForConditionalGeneration, "encoder_layers"),
        (VanillaTransformerForMaskedLM, "encoder_layers"),
        (VanillaTransformerForCausalLM, "decoder_layers"),
    ):
        head(small_config()).save_pretrained(tmp_path)
        _, info = head.from_pretrained(tmp_path, output_loading_info=True, **{depth: 1})
        assert any(".layers.1." in key for key in info["unexpected_keys"])


def test_the_depth_of_a_head_is_that_of_its_stack(small_config):
    assert VanillaTransformerForMaskedLM(small_config()).config.num_hidden_layers == 2
    assert VanillaTransformerForCausalLM(small_config()).config.num_hidden_layers == 3


def test_a_head_leaves_the_configuration_that_it_is_given(small_config):
    config = small_config()
    for head in HEADS:
        model = head(config)
        assert config.is_encoder_decoder and not config.is_decoder
        assert model.config.has_encoder == ("encoder" in PARTS[head])
        assert model.config.has_decoder == ("decoder" in PARTS[head])


# ----- what they learn -----


def overfit(model, batch, steps=150, rate=3e-3):
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for _ in range(steps):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def examples():
    """50 texts of 8 tokens, as ids and mask; the last three tokens of every fifth are padding."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(4, 60, (50, 8), generator=generator)
    mask = torch.ones_like(ids)
    ids[::5, 5:], mask[::5, 5:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.slow
def test_every_head_overfits_50_examples(small_config, examples):
    torch.manual_seed(0)
    config = small_config(dropout=0.0, num_labels=3, encoder_layers=1, decoder_layers=2)
    generator = torch.Generator().manual_seed(4)
    ids, mask = examples["input_ids"], examples["attention_mask"]

    labels = torch.randint(3, (50,), generator=generator)
    model = overfit(VanillaTransformerForSequenceClassification(config), {**examples, "labels": labels})
    assert torch.equal(model(**examples).logits.argmax(-1), labels)

    labels = torch.randint(3, (50, 8), generator=generator).masked_fill(mask == 0, -100)
    model = overfit(VanillaTransformerForTokenClassification(config), {**examples, "labels": labels})
    assert torch.equal(model(**examples).logits.argmax(-1)[mask == 1], labels[mask == 1])

    start = torch.randint(4, (50,), generator=generator)
    end = start + torch.randint(2, (50,), generator=generator)
    answers = {"start_positions": start, "end_positions": end}
    model = overfit(VanillaTransformerForQuestionAnswering(config), {**examples, **answers})
    outputs = model(**examples)
    assert torch.equal(outputs.start_logits.argmax(-1), start) and torch.equal(outputs.end_logits.argmax(-1), end)

    masked, labels = ids.clone(), torch.full_like(ids, -100)
    masked[:, 3], labels[:, 3] = 3, ids[:, 3]
    model = overfit(VanillaTransformerForMaskedLM(config), {**examples, "input_ids": masked, "labels": labels}, 250)
    assert torch.equal(model(masked, attention_mask=mask).logits[:, 3].argmax(-1), ids[:, 3])

    labels = ids.masked_fill(mask == 0, -100)
    model = overfit(VanillaTransformerForCausalLM(config), {**examples, "labels": labels}, 250)
    predicted = model(**examples).logits.argmax(-1)[:, 1:-1]
    assert (predicted == ids[:, 2:])[mask[:, 2:] == 1].float().mean() > 0.95  # all but texts that begin alike

    target = torch.cat([ids[:, :4].flip(1), torch.full((50, 1), 2)], dim=1)
    model = overfit(VanillaTransformerForConditionalGeneration(config), {**examples, "labels": target}, 400)
    assert torch.equal(model.generate(**examples)[:, 1:6], target)


@pytest.mark.parametrize("head", [VanillaTransformerForCausalLM, VanillaTransformerForMaskedLM])
@pytest.mark.parametrize("number", [None, 7])
def test_a_loss_without_logits_is_that_of_logits(head, number, small_config):
    torch.manual_seed(0)
    model = head(small_config(dropout=0.0)).train()
    ids = torch.randint(3, 50, (3, 9))
    labels = torch.where(torch.rand(ids.shape) < 0.5, ids, -100)
    batch = {"input_ids": ids, "labels": labels} | ({} if number is None else {"num_items_in_batch": number})
    losses, gradients = [], []
    for training_loss in (None, label_smoothed_loss):
        model.training_loss = training_loss
        model.zero_grad()
        outputs = model(**batch)
        assert (outputs.logits is None) == (training_loss is not None)
        outputs.loss.backward()
        losses.append(outputs.loss.detach())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
    assert model.eval()(**batch).logits.shape == (3, 9, model.config.vocab_size)


def test_padding_is_not_an_answer(small_config):
    torch.manual_seed(0)
    model = VanillaTransformerForQuestionAnswering(small_config()).eval()
    ids = torch.randint(3, 50, (2, 7))
    positions = {"start_positions": torch.tensor([1, 4]), "end_positions": torch.tensor([2, 6])}
    alone = model(input_ids=ids, attention_mask=torch.ones_like(ids), **positions)
    padded = torch.nn.functional.pad(ids, (0, 5), value=model.config.pad_token_id)
    beside = model(input_ids=padded, attention_mask=(torch.arange(12) < 7).expand(2, 12).long(), **positions)
    torch.testing.assert_close(beside.loss, alone.loss)
    torch.testing.assert_close(beside.start_logits[:, :7], alone.start_logits)
    assert beside.start_logits.softmax(-1)[:, 7:].sum() == 0
    mask = (torch.arange(12) < torch.tensor([[7], [4]])).long()  # the second answer is cut off: it does not count
    short = model(input_ids=padded, attention_mask=mask, **positions).loss
    first = model(input_ids=ids[:1], **{name: values[:1] for name, values in positions.items()}).loss
    torch.testing.assert_close(short, first)
    with pytest.raises(ValueError, match="`end_positions` has -1"):
        model(input_ids=ids, **{**positions, "end_positions": torch.tensor([2, -1])})
    with pytest.raises(ValueError, match="does not mark single tokens as padding"):
        model(input_ids=ids, attention_mask=torch.ones(2, 1, 1, 7, dtype=torch.bool))


@pytest.mark.slow
def test_the_masked_head_reads_both_sides_and_the_causal_one_only_the_left(small_config):
    """The hidden token is again two places to its right, and nothing to its left tells of it."""
    torch.manual_seed(0)
    hidden = torch.randint(4, 60, (400,))
    ids = torch.stack(
        [torch.randint(4, 60, (400,)), torch.full_like(hidden, 3), torch.full_like(hidden, 4), hidden], 1
    )
    labels = torch.full_like(ids, -100)
    labels[:, 1] = hidden
    train = {"input_ids": ids[:300], "labels": labels[:300]}
    config = small_config(dropout=0.0, encoder_layers=1, decoder_layers=1)
    masked = overfit(VanillaTransformerForMaskedLM(config), train, 400)
    accuracy = (masked(ids[300:]).logits[:, 1].argmax(-1) == hidden[300:]).float().mean()
    assert accuracy > 0.9
    # The causal head predicts the token after its position: at the first it has seen only the left side.
    causal = overfit(VanillaTransformerForCausalLM(config), train, 400)
    accuracy = (causal(ids[300:]).logits[:, 0].argmax(-1) == hidden[300:]).float().mean()
    assert accuracy < 0.2


# ----- what they see -----


def test_the_causal_head_does_not_see_the_future_nor_padding(small_config):
    torch.manual_seed(0)
    model = VanillaTransformerForCausalLM(small_config()).eval()
    ids = torch.randint(4, 60, (2, 9))
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1 - 4) % 56 + 4
    logits, moved = model(ids).logits, model(changed).logits
    assert torch.equal(logits[:, :5], moved[:, :5])
    assert not torch.equal(logits[:, 5:], moved[:, 5:])
    # Padding on the left: the same logits as without.
    padded = torch.cat([torch.ones(2, 3, dtype=torch.long), ids], dim=1)
    mask = (padded != 1).long()
    torch.testing.assert_close(model(padded, attention_mask=mask).logits[:, 3:], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"cache_implementation": "static"}])
def test_the_causal_head_generates_the_same_with_and_without_a_cache(small_config, settings):
    torch.manual_seed(0)
    model = VanillaTransformerForCausalLM(small_config()).eval()
    ids = torch.randint(4, 60, (3, 6))
    mask = torch.ones_like(ids)
    ids[0, :2], mask[0, :2] = 1, 0
    common = {"attention_mask": mask, "max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    cached = model.generate(ids, **common, **settings)
    without = {name: value for name, value in settings.items() if name != "cache_implementation"}
    assert torch.equal(cached, model.generate(ids, **common, **without, use_cache=False))
    # Greedy by hand, on the whole text at each step.
    if not settings:
        text = ids
        for _ in range(8):
            grown = torch.cat([mask, mask.new_ones(3, text.shape[1] - 6)], dim=1)
            logits = model(text, attention_mask=grown).logits[:, -1]
            logits[:, 2] = -float("inf")
            text = torch.cat([text, logits.argmax(-1, keepdim=True)], dim=1)
        assert torch.equal(cached, text)


def test_a_mask_for_the_whole_of_a_cache_gives_the_positions_of_the_text(small_config):
    torch.manual_seed(0)
    model = VanillaTransformerForCausalLM(small_config()).eval()
    ids = torch.randint(4, 60, (2, 8))
    expected = model(ids).logits[:, 6:]
    for columns in (8, 12):
        cache = model(ids[:, :6], use_cache=True).past_key_values
        mask = torch.zeros(2, columns, dtype=torch.long)
        mask[:, :8] = 1
        logits = model(ids[:, 6:], attention_mask=mask, past_key_values=cache).logits
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"`attention_mask` has the shape \(2, 2\) for 2 rows of 8 tokens"):
        cache = model(ids[:, :6], use_cache=True).past_key_values
        model(ids[:, 6:], attention_mask=torch.ones(2, 2), past_key_values=cache)


def test_all_heads_take_embeddings_in_the_place_of_ids(small_config, batch):
    torch.manual_seed(0)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for head in HEADS:
        model = head(small_config(num_labels=3)).eval()
        embeds = model.get_input_embeddings()(ids)
        rest = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
        by_ids = model(input_ids=ids, attention_mask=mask, **rest)
        by_embeds = model(inputs_embeds=embeds, attention_mask=mask, **rest)
        torch.testing.assert_close(by_embeds[0], by_ids[0], rtol=0, atol=1e-6)


# ----- what they refuse -----


@pytest.mark.parametrize("head", [*CLASSIFIERS[:2], VanillaTransformerForMaskedLM, VanillaTransformerForCausalLM])
def test_labels_outside_of_the_classes_are_refused(head, small_config, batch):
    model = head(small_config(num_labels=3))
    number = 3 if head in CLASSIFIERS else 60
    labels = torch.zeros(3 if "Sequence" in head.__name__ else (3, 9), dtype=torch.long)
    for wrong in (number, -1):
        labels.view(-1)[0] = wrong
        with pytest.raises(ValueError, match=f"`labels` has {wrong}: give 0 to {number - 1}"):
            model(batch["input_ids"], labels=labels)


def test_labels_of_the_translating_head_are_checked(model, batch):
    batch["labels"][0, 0] = 60
    with pytest.raises(ValueError, match="`labels` has 60: give 0 to 59"):
        model(**batch)


@pytest.mark.parametrize("head", HEADS)
def test_two_inputs_and_masks_of_another_shape_are_refused(head, small_config, batch):
    model = head(small_config())
    ids = batch["input_ids"]
    rest = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        model(input_ids=ids, inputs_embeds=torch.zeros(3, 9, 32), **rest)
    for shape in ((3, 8), (2, 9), (3, 10), (9,), (3, 9, 9)):
        with pytest.raises(ValueError, match=r"`attention_mask` has the shape \(.*\) for 3 rows of 9 tokens"):
            model(input_ids=ids, attention_mask=torch.ones(shape, dtype=torch.long), **rest)


def test_inputs_that_a_model_cannot_read_are_refused(model, small_config, batch):
    with pytest.raises(ValueError, match="AutoModelForTextEncoding"):
        model.model(batch["input_ids"])
    causal = VanillaTransformerForCausalLM(small_config())
    with pytest.raises(ValueError, match="has no cross-attention"):
        causal(batch["input_ids"], encoder_hidden_states=torch.zeros(3, 4, 32))
    for one_stack in (causal.model, VanillaTransformerEncoderModel(small_config())):
        for name in ("decoder_input_ids", "decoder_inputs_embeds", "encoder_outputs"):
            with pytest.raises(ValueError, match=f"`{name}` must be None for a model of one stack"):
                one_stack(batch["input_ids"], **{name: batch["input_ids"]})


@pytest.mark.parametrize(
    ("head", "task", "text"),
    [
        (VanillaTransformerForSequenceClassification, "text-classification", "the red car"),
        (VanillaTransformerForTokenClassification, "token-classification", "the red car"),
        (VanillaTransformerForMaskedLM, "fill-mask", "the <mask> car"),
        (VanillaTransformerForCausalLM, "text-generation", "the red"),
        (VanillaTransformerEncoderModel, "feature-extraction", "the red car"),
        (VanillaTransformerForMaskedLM, "feature-extraction", "the red car"),
    ],
)
def test_pipelines_run_on_saved_folders(head, task, text, small_config, tokenizer, tmp_path):
    head(small_config(vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    options = {"max_new_tokens": 3} if task == "text-generation" else {}
    result = pipeline(task, model=str(tmp_path), **options)(text)
    assert len(result) > 0
    if task == "feature-extraction":
        assert len(result[0][0]) == 32


@pytest.mark.slow
def test_every_head_loads_without_the_package(folders, fresh_python):
    """As code that came with the folder."""
    code = "import torch, transformers\n"
    for head in HEADS[1:]:
        name = {
            "VanillaTransformerForConditionalGeneration": "AutoModelForSeq2SeqLM",
            "VanillaTransformerEncoderModel": "AutoModelForTextEncoding",
        }.get(head.__name__, head.__name__.replace("VanillaTransformer", "AutoModel"))
        code += f"""
model = transformers.{name}.from_pretrained({str(folders / head.__name__)!r}, trust_remote_code=True)
extra = {{"decoder_input_ids": torch.tensor([[0, 5]])}} if model.config.is_encoder_decoder else {{}}
print(type(model).__name__, model(input_ids=torch.tensor([[5, 6, 2]]), **extra)[0].shape[0])
"""
    shown = fresh_python(code, installed=False)
    for head in HEADS[1:]:
        assert f"{head.__name__} 1" in shown


def test_every_public_class_is_in_the_table_or_not_a_head():
    others = {
        "VanillaTransformerConfig",
        "VanillaTransformerPreTrainedModel",
        "VanillaTransformerSummarizationPipeline",
        "VanillaTransformerText2TextGenerationPipeline",
        "VanillaTransformerTokenizer",
        "VanillaTransformerTranslationPipeline",
        "__version__",
        "load_translator",
    }
    assert set(vanilla_transformer.__all__) == others | {head.__name__ for head in HEADS}


@pytest.mark.parametrize("head", [each for each in HEADS if "For" in each.__name__])
def test_a_subclass_keeps_the_loss_of_its_head(head, small_config):
    """By its own name transformers would give it the loss of a language model, which shifts labels."""
    own = type("Own", (head,), {})(small_config(num_labels=3)).eval()
    model = head(small_config(num_labels=3)).eval()
    assert own.loss_function is model.loss_function
    misleading = type("OwnForCausalLMs", (head,), {})(small_config(num_labels=3))
    assert misleading.loss_function is model.loss_function


@pytest.mark.slow
def test_nothing_false_is_said_of_the_loss_of_a_subclass(model_folder, fresh_python):
    said = fresh_python(f"""
import os
os.dup2(1, 2)  # what goes to the screen as a warning counts too
import torch, transformers
transformers.utils.logging.disable_progress_bar()
from vanilla_transformer import VanillaTransformerForConditionalGeneration
class Own(VanillaTransformerForConditionalGeneration):
    pass
model = Own.from_pretrained({str(model_folder)!r}).eval()
ids = torch.tensor([[5, 6, 2]])
plain = VanillaTransformerForConditionalGeneration.from_pretrained({str(model_folder)!r}).eval()
assert torch.equal(model(input_ids=ids, labels=ids).loss, plain(input_ids=ids, labels=ids).loss)
""")
    assert said == ""
