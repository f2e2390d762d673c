import copy
import math
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM
from transformers.modeling_outputs import BaseModelOutput

from vanilla_transformer import VanillaTransformerConfig, VanillaTransformerForConditionalGeneration
from vanilla_transformer.modeling_vanilla_transformer import VanillaTransformerSinusoidalPositions

ATTENTIONS = ["eager", "sdpa"]


def formula(positions: np.ndarray, hidden_size: int) -> np.ndarray:
    """§3.5, written with the paper's indices in numpy's float64."""
    encoding = np.zeros((len(positions), hidden_size))
    for i in range(hidden_size // 2):
        angles = positions / 10000 ** (2 * i / hidden_size)
        encoding[:, 2 * i], encoding[:, 2 * i + 1] = np.sin(angles), np.cos(angles)
    return encoding


# ----- sizes -----


@pytest.mark.parametrize(("preset", "count"), [("base", 63_045_632), ("big", 214_171_648)])
def test_parameter_counts_at_the_papers_vocabulary(preset, count):
    with torch.device("meta"):
        model = VanillaTransformerForConditionalGeneration(VanillaTransformerConfig.from_preset(preset))
    assert model.num_parameters() == count


def test_embeddings_and_projection_are_one_tensor_saved_once(model, tmp_path):
    from safetensors import safe_open

    pointers = {
        m.weight.data_ptr()
        for m in (
            model.lm_head,
            model.model.shared,
            model.model.encoder.embed_tokens,
            model.model.decoder.embed_tokens,
        )
    }
    assert len(pointers) == 1
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert [name for name in names if any(word in name for word in ("embed", "lm_head", "shared"))] == [
        "model.shared.weight"
    ]
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight.data_ptr() == loaded.model.encoder.embed_tokens.weight.data_ptr()


def test_untied_matrices_are_three_and_resize_together(config, batch, tmp_path):
    config.tie_word_embeddings = False
    model = VanillaTransformerForConditionalGeneration(config).train()
    model(**batch).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.resize_token_embeddings(70)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert loaded(**batch).logits.shape[-1] == 70
    torch.testing.assert_close(loaded(**batch).logits, model.eval()(**batch).logits)


def test_initialisation_is_the_authors(config):
    config.vocab_size = 20_000
    model = VanillaTransformerForConditionalGeneration(config)
    embeddings = model.model.shared.weight
    assert embeddings.std().item() == pytest.approx(config.hidden_size**-0.5, rel=0.01)
    assert not embeddings[config.pad_token_id].any()
    bound = math.sqrt(6 / (config.hidden_size + config.intermediate_size))
    fc1 = model.model.encoder.layers[0].fc1.weight
    assert 0.95 * bound < fc1.abs().max() <= bound


@pytest.mark.parametrize("gain", [1.0, 2**-0.5])
def test_projections_to_queries_keys_and_values_begin_with_their_gain(config, gain, tmp_path):
    config.attention_init_gain = gain
    model = VanillaTransformerForConditionalGeneration(config)
    width = config.hidden_size
    bound = math.sqrt(6 / (2 * width))
    for attention in (model.model.encoder.layers[0].self_attn, model.model.decoder.layers[1].encoder_attn):
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            assert 0.95 * gain * bound < projection.weight.abs().max() <= gain * bound
        assert 0.95 * bound < attention.out_proj.weight.abs().max() <= bound
    if gain < 1:
        of_torch = torch.nn.MultiheadAttention(width, 1).in_proj_weight
        assert 0.95 * gain * bound < of_torch.abs().max() <= gain * bound
    # Trained weights are loaded as they are.
    with torch.no_grad():
        model.model.encoder.layers[0].self_attn.q_proj.weight.fill_(3)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert loaded.config.attention_init_gain == gain
    assert (loaded.model.encoder.layers[0].self_attn.q_proj.weight == 3).all()


# ----- positions -----


def test_positions_equal_the_papers_formula_to_ten_thousand():
    positions = np.arange(10_001)
    encoding = VanillaTransformerSinusoidalPositions(512)(torch.from_numpy(positions))
    assert np.abs(encoding.numpy() - formula(positions, 512)).max() < 1e-6


@pytest.mark.slow
def test_positions_survive_a_bf16_round_trip_in_a_fresh_process(config, tmp_path, fresh_python):
    VanillaTransformerForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    code = f"""
import numpy, torch, vanilla_transformer
from transformers import AutoModelForSeq2SeqLM
model = AutoModelForSeq2SeqLM.from_pretrained({str(tmp_path / "bf16")!r})
assert model.dtype == torch.bfloat16
numpy.save({str(tmp_path / "positions.npy")!r}, model.model.decoder.embed_positions(torch.arange(10001)).numpy())
"""
    fresh_python(code)
    encoding = np.load(tmp_path / "positions.npy")
    assert np.abs(encoding - formula(np.arange(10_001), config.hidden_size)).max() < 1e-6


def test_a_source_of_three_thousand_tokens_needs_no_setting(model):
    source = torch.randint(4, 60, (1, 3000))
    with torch.no_grad():
        outputs = model(input_ids=source, decoder_input_ids=torch.tensor([[0, 5]]))
    assert outputs.encoder_last_hidden_state.shape == (1, 3000, 32)
    assert outputs.logits.isfinite().all()


def test_learned_positions_have_a_length_that_is_named(config):
    config.position_embedding_type, config.max_position_embeddings = "learned", 8
    model = VanillaTransformerForConditionalGeneration(config).eval()
    model(input_ids=torch.full((1, 8), 5), decoder_input_ids=torch.zeros(1, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="9 positions and `max_position_embeddings` is 8"):
        model(input_ids=torch.full((1, 9), 5), decoder_input_ids=torch.zeros(1, 1, dtype=torch.long))


def test_explicit_positions_are_used(model, batch):
    ids = batch["input_ids"][:1]
    with torch.no_grad():
        encode = model.model.encoder
        counted = encode(input_ids=ids).last_hidden_state
        given = encode(input_ids=ids, position_ids=torch.arange(9).unsqueeze(0)).last_hidden_state
        shifted = encode(input_ids=ids, position_ids=torch.arange(100, 109).unsqueeze(0)).last_hidden_state
    torch.testing.assert_close(counted, given)
    assert (counted - shifted).abs().max() > 1e-2


# ----- masks -----


@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_a_future_target_token_moves_nothing_before_it(model, batch, attention):
    model.set_attn_implementation(attention)
    ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])[:1]
    changed = ids.clone()
    changed[:, 4] = (changed[:, 4] + 7) % 50 + 4
    source = {"input_ids": batch["input_ids"][:1], "attention_mask": batch["attention_mask"][:1]}
    before = model(**source, decoder_input_ids=ids).logits
    after = model(**source, decoder_input_ids=changed).logits
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4] - after[:, 4]).abs().max() > 1e-3


@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_a_padded_source_token_moves_nothing(model, batch, attention):
    model.set_attn_implementation(attention)
    changed = dict(batch, input_ids=batch["input_ids"].where(batch["attention_mask"] == 1, 33))
    assert not torch.equal(changed["input_ids"], batch["input_ids"])
    assert torch.equal(model(**batch).logits, model(**changed).logits)


@torch.no_grad()
def test_every_source_token_moves_something(model, batch):
    before = model(**batch).logits[0]
    for position in range(9):
        changed = dict(batch, input_ids=batch["input_ids"].clone())
        changed["input_ids"][0, position] = (changed["input_ids"][0, position] + 7) % 50 + 4
        assert (model(**changed).logits[0] - before).abs().max() > 1e-4


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_fully_padded_row_stays_finite_forward_and_backward(model, batch, attention):
    model.set_attn_implementation(attention)
    batch["attention_mask"][1] = 0
    model.train()
    loss = model(**batch).loss
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    assert model(**batch).logits.isfinite().all()


@torch.no_grad()
def test_a_batch_equals_its_sentences_one_by_one(model, batch):
    together = model(**batch).logits
    for row, (source_length, target_length) in enumerate(((9, 7), (5, 4), (2, 1))):
        alone = model(
            input_ids=batch["input_ids"][row : row + 1, :source_length],
            labels=batch["labels"][row : row + 1, :target_length],
        ).logits
        torch.testing.assert_close(together[row : row + 1, :target_length], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_left_padding_equals_right_padding_on_both_sides(model, batch):
    def to_the_left(tensor, lengths, padding):
        moved = torch.full_like(tensor, padding)
        for row, length in enumerate(lengths):
            moved[row, tensor.shape[1] - length :] = tensor[row, :length]
        return moved

    sources, targets = (9, 5, 2), (7, 4, 1)
    decoder_input_ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    decoder_mask = (batch["labels"] != -100).long()
    right = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=decoder_input_ids,
        decoder_attention_mask=decoder_mask,
    ).logits
    left = model(
        input_ids=to_the_left(batch["input_ids"], sources, 1),
        attention_mask=to_the_left(batch["attention_mask"], sources, 0),
        decoder_input_ids=to_the_left(decoder_input_ids, targets, 1),
        decoder_attention_mask=to_the_left(decoder_mask, targets, 0),
    ).logits
    for row, length in enumerate(targets):
        torch.testing.assert_close(right[row, :length], left[row, 7 - length :], rtol=0, atol=1e-5)


def test_no_input_and_two_inputs_are_refused(model, batch):
    with pytest.raises(ValueError, match="The decoder got no input"):
        model(input_ids=batch["input_ids"])
    with pytest.raises(ValueError, match=r"exactly one of `input_ids` and `inputs_embeds`.*neither"):
        model(decoder_input_ids=batch["input_ids"])
    with pytest.raises(ValueError, match="both"):
        model(**batch, inputs_embeds=torch.zeros(3, 9, 32))


# ----- switches -----


@torch.no_grad()
def test_cached_steps_equal_the_teacher_forced_pass(model, batch):
    ids = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    source = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    whole = model(**source, decoder_input_ids=ids).logits
    cache, steps = None, []
    for position in range(ids.shape[1]):
        outputs = model(**source, decoder_input_ids=ids[:, position : position + 1], past_key_values=cache)
        cache = outputs.past_key_values
        steps.append(outputs.logits)
    assert len(cache.self_attention_cache.layers) == model.config.decoder_layers
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_eager_equals_sdpa_and_returns_the_weights(model, batch):
    sdpa = model(**batch).logits
    model.set_attn_implementation("eager")
    outputs = model(**batch, output_attentions=True, output_hidden_states=True)
    real = batch["labels"] != -100
    torch.testing.assert_close(outputs.logits[real], sdpa[real], rtol=0, atol=1e-5)
    assert [tuple(w.shape) for w in outputs.encoder_attentions] == [(3, 4, 9, 9)] * 2
    assert [tuple(w.shape) for w in outputs.decoder_attentions] == [(3, 4, 7, 7)] * 3
    assert [tuple(w.shape) for w in outputs.cross_attentions] == [(3, 4, 7, 9)] * 3
    assert len(outputs.decoder_hidden_states) == 4
    torch.testing.assert_close(outputs.cross_attentions[0].sum(-1), torch.ones(3, 4, 7))


def test_gradient_checkpointing_gives_the_same_gradients(model, batch):
    model.config.dropout = model.model.encoder.dropout.p = model.model.decoder.dropout.p = 0.0
    model.train()
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        layer.dropout.p = 0.0
    calls = []
    layers = len(model.model.encoder.layers) + len(model.model.decoder.layers)
    for layer in [*model.model.encoder.layers, *model.model.decoder.layers]:
        layer.fc1.register_forward_hook(lambda *arguments: calls.append(1))
    model(**batch).loss.backward()
    assert len(calls) == layers
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(**batch).loss.backward()
    assert len(calls) == 3 * layers  # computed again on the way back
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif(
                not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler, and none is installed"
            ),
        ),
    ],
)
def test_one_compiled_graph_gives_the_same_loss_and_gradients(small_config, batch, backend):
    torch.manual_seed(0)
    config = small_config(encoder_layers=1, decoder_layers=1, dropout=0.0)  # as long again for each layer
    model = VanillaTransformerForConditionalGeneration(config).train()
    expected = model(**batch).loss
    expected.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    torch._dynamo.reset()
    loss = torch.compile(model, fullgraph=True, backend=backend)(**batch).loss
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_precision_trains_and_evaluates(model, batch, dtype):
    reference = copy.deepcopy(model)(**batch).logits
    model.to(dtype)
    logits = model(**batch).logits
    assert logits.dtype == dtype
    assert (logits - reference).abs().max() < {torch.float32: 1e-6, torch.bfloat16: 0.2, torch.float16: 0.03}[dtype]
    model.train()
    loss = model(**batch).loss
    loss.backward()
    assert loss.isfinite() and all(parameter.grad.isfinite().all() for parameter in model.parameters())


def replicate(module: torch.nn.Module) -> torch.nn.Module:
    """A model as `nn.DataParallel` copies it to each GPU: with tensors in the place of parameters."""
    replica = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        replica._modules[name] = None if child is None else replicate(child)
    for name, parameter in module._parameters.items():
        if parameter is None:
            replica._parameters[name] = None
        else:
            setattr(replica, name, parameter.clone())
    return replica


def test_replicas_of_data_parallel_give_the_loss_and_gradients_of_the_model(small_config, batch):
    model = VanillaTransformerForConditionalGeneration(small_config(dropout=0.0)).train()
    count = (batch["labels"] != -100).sum()
    model(**batch, num_items_in_batch=count).loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    parts = [{name: tensor[rows] for name, tensor in batch.items()} for rows in (slice(0, 2), slice(2, 3))]
    outputs = [replicate(model)(**part, num_items_in_batch=count) for part in parts]
    # It gathers field by field; the logits are not made in training and are not a field.
    gathered = type(outputs[0])((name, torch.stack([output[name] for output in outputs])) for name in ("loss",))
    assert all("logits" not in output for output in outputs)
    gathered.loss.sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "change", [{"norm_first": True}, {"attention_bias": True}, {"qk_head_dim": 6, "v_head_dim": 10}]
)
def test_the_variations_train_save_and_load(change, small_config, batch, tmp_path):
    model = VanillaTransformerForConditionalGeneration(small_config(**change)).train()
    model(**batch).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert loaded.generate(batch["input_ids"], attention_mask=batch["attention_mask"]).shape[0] == 3


def test_a_decoder_without_its_source_is_refused(model, batch):
    """It would attend to its own target, the future included."""
    with pytest.raises(ValueError, match="The decoder got no source: give it `encoder_hidden_states`"):
        model.get_decoder()(batch["input_ids"])
    with pytest.raises(ValueError, match="The decoder got no source"):
        model(encoder_outputs=BaseModelOutput(), decoder_input_ids=batch["input_ids"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": torch.tensor([5, 2])}, r"`input_ids` is \(2,\)"),
        ({"inputs_embeds": torch.zeros(1, 2, 7)}, r"`inputs_embeds` is \(1, 2, 7\).*`hidden_size`"),
        ({"input_ids": torch.tensor([[5, 2]] * 3)}, "The source has 3 rows and the target 1"),
    ],
)
def test_inputs_of_other_shapes_are_refused(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        model(**inputs, decoder_input_ids=torch.tensor([[0, 5]]))


def test_parts_are_listed_in_the_order_of_computation(small_config):
    """By `print`, which is how many look at a model first."""
    config = small_config(norm_first=True)
    model = VanillaTransformerForConditionalGeneration(config)
    attention = ["self_attn", "self_attn_layer_norm"]
    feed_forward = ["fc1", "activation_fn", "activation_dropout", "fc2", "final_layer_norm", "dropout"]
    of_encoder, of_decoder = (list(dict(stack.layers[0].named_children())) for stack in model.model.stacks())
    assert of_encoder == [*attention, *feed_forward]
    assert of_decoder == [*attention, "encoder_attn", "encoder_attn_layer_norm", *feed_forward]
    for stack in model.model.stacks():
        assert list(dict(stack.named_children())) == [
            "embed_tokens", "embed_positions", "dropout", "layers", "layer_norm"
        ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("positions", [{}, {"position_embedding_type": "learned", "max_position_embeddings": 20}])
def test_embeddings_and_positions_can_be_used_by_themselves(small_config, batch, dtype, positions):
    encoder = VanillaTransformerForConditionalGeneration(small_config(**positions)).eval().to(dtype).get_encoder()
    embedded = encoder.embed_tokens(batch["input_ids"])
    summed = encoder.add_positions(embedded)
    assert summed.dtype == embedded.dtype == dtype
    assert encoder.layers[0].self_attn.q_proj(summed).shape == (3, 9, 32)
    by_hand = embedded + encoder.embed_positions(torch.arange(9), dtype)
    torch.testing.assert_close(by_hand, summed, rtol=0, atol=0)
    torch.testing.assert_close(encoder.add_positions(embedded, position_ids=torch.arange(9)), summed, rtol=0, atol=0)


def test_positions_are_whole_numbers_and_come_in_the_default_precision(model):
    positions = model.get_encoder().embed_positions
    assert positions(torch.arange(4)).dtype == torch.float32
    exact = positions(torch.arange(5000, 5004), torch.float64)
    assert exact.dtype == torch.float64 and exact[0, 0].item() == pytest.approx(math.sin(5000.0), abs=1e-12)
    with pytest.raises(ValueError, match=r"`position_ids` must be whole numbers, but is \(2, 3\) of torch.float32"):
        positions(torch.zeros(2, 3))


def test_the_other_sinusoids_are_those_of_the_authors_code_and_fairseq():
    """fairseq's own formula: [sines | cosines] of position + offset, with exponents i / (D / 2 - 1)."""
    positions = torch.arange(50, dtype=torch.float64)
    exponents = torch.arange(8, dtype=torch.float64) / 7
    angles = (positions + 2).unsqueeze(1) / 10000**exponents
    ours = VanillaTransformerSinusoidalPositions(16, "tensor2tensor", offset=2)(torch.arange(50))
    torch.testing.assert_close(ours[:, 0::2], angles.sin().float())
    torch.testing.assert_close(ours[:, 1::2], angles.cos().float())


def test_embeddings_can_stay_as_they_are(small_config):
    model = VanillaTransformerForConditionalGeneration(small_config(scale_embedding=False))
    ids = torch.tensor([[5, 6]])
    assert torch.equal(model.model.encoder.embed(ids, None), model.model.shared.weight[ids])
