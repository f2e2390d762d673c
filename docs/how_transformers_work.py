# %% [markdown]
# # How Transformers work
#
# From attention by hand to a translator that you train here, with the classes of this package. Everything runs on a
# laptop in a few minutes. § are sections of [Attention Is All You Need](https://arxiv.org/abs/1706.03762).

# %%
import math
import random
import time

import torch
import torch.nn.functional as F

from vanilla_transformer import (
    VanillaTransformerConfig,
    VanillaTransformerForConditionalGeneration,
    VanillaTransformerTokenizer,
)
from vanilla_transformer.explain import explain
from vanilla_transformer.modeling_vanilla_transformer import (
    VanillaTransformerAttention,
    VanillaTransformerEncoderLayer,
    VanillaTransformerSinusoidalPositions,
)

torch.manual_seed(0)

# %% [markdown]
# ## Attention by hand (§3.2.1)
#
# Three tokens. Each has a query (what it looks for), a key (what it is found by) and a value (what it gives).
# The product of a query and a key says how well they fit; softmax makes weights of it that sum to 1.

# %%
queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
values = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])

scores = queries @ keys.T / math.sqrt(2)  # divided by sqrt(d_k), so that softmax stays soft
weights = scores.softmax(dim=-1)
print(weights)
print(weights @ values)

# %% [markdown]
# A decoder must not see what it has not written. The mask puts -∞ where a token would see a later one (§3.2.3).

# %%
mask = torch.ones(3, 3).tril().bool()
print(scores.masked_fill(~mask, -math.inf).softmax(dim=-1))

# %% [markdown]
# ## Several heads (§3.2.2)
#
# `VanillaTransformerAttention` runs attentions side by side, each on its part of the projections. The same by hand:

# %%
config = VanillaTransformerConfig(
    vocab_size=300, hidden_size=64, intermediate_size=128, encoder_layers=2, decoder_layers=2, num_attention_heads=4
)
config._attn_implementation = "eager"  # written out, as above
torch.set_grad_enabled(False)
attention = VanillaTransformerAttention(config, layer_idx=0).eval()
x = torch.randn(1, 5, 64)  # (B, T, D)

heads = []
for head in range(4):
    rows = slice(16 * head, 16 * (head + 1))
    q, k, v = (x @ part.weight[rows].T for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    heads.append((q @ k.transpose(1, 2) / math.sqrt(16)).softmax(dim=-1) @ v)
by_hand = torch.cat(heads, dim=-1) @ attention.out_proj.weight.T
print("difference:", float((attention(x)[0] - by_hand).abs().max()))

# %% [markdown]
# ## Positions (§3.5)
#
# Attention does not know the order of its tokens: sort them otherwise and the outputs are sorted the same way.

# %%
order = torch.tensor([3, 1, 4, 0, 2])
print(
    "attention does not know the order:",
    torch.allclose(attention(x[:, order])[0], attention(x)[0][:, order], atol=1e-6),
)
positions = VanillaTransformerSinusoidalPositions(64)(torch.arange(5))
print(positions[:, :4])  # sin, cos, sin, cos, with longer and longer waves

# %% [markdown]
# ## A layer (§3.1, §3.3, §5.4)
#
# Attention, then a small network at every position; around both a residual connection and a norm.

# %%
layer = VanillaTransformerEncoderLayer(config, layer_idx=0).eval()
a = layer.self_attn_layer_norm(x + layer.self_attn(x)[0])
inner = F.relu(a @ layer.fc1.weight.T + layer.fc1.bias)
by_hand = layer.final_layer_norm(a + inner @ layer.fc2.weight.T + layer.fc2.bias)
print("difference:", float((layer(x) - by_hand).abs().max()))

# %% [markdown]
# ## Something to translate
#
# A tiny language, in which order matters: who sees whom, and adjectives come after nouns and agree with them.

# %%
NOUNS = {
    "cat": ("gato", "el"),
    "dog": ("perro", "el"),
    "bird": ("pájaro", "el"),
    "cow": ("vaca", "la"),
    "hen": ("gallina", "la"),
    "fox": ("zorra", "la"),
}
ADJECTIVES = {"red": "roj", "small": "pequeñ", "white": "blanc", "old": "viej"}
VERBS = {"sees": "ve", "wants": "quiere", "paints": "pinta"}


def translate_phrase(adjective, noun):
    spanish, article = NOUNS[noun]
    return f"{article} {spanish} {ADJECTIVES[adjective]}{'o' if article == 'el' else 'a'}"


pairs = [
    (f"the {a1} {n1} {verb} the {a2} {n2}", f"{translate_phrase(a1, n1)} {VERBS[verb]} {translate_phrase(a2, n2)}")
    for a1 in ADJECTIVES
    for n1 in NOUNS
    for verb in VERBS
    for a2 in ADJECTIVES
    for n2 in NOUNS
]
random.Random(0).shuffle(pairs)
train, test = pairs[:800], pairs[800:900]
print(len(pairs), train[0])

tokenizer = VanillaTransformerTokenizer.train([text for pair in train for text in pair], vocab_size=330)
print(tokenizer.tokenize(train[0][1]))

# %% [markdown]
# ## Training (§5)
#
# Adam with the paper's warm-up and decay; the model's own loss is label-smoothed while it trains. Quality is the share
# of sentences that were never shown and are translated without a mistake.


# %%
def make_model(**changes):
    torch.manual_seed(1)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "encoder_layers": 2, "decoder_layers": 2}
    sizes["num_attention_heads"] = 4
    return VanillaTransformerForConditionalGeneration(
        VanillaTransformerConfig(vocab_size=len(tokenizer), **{**sizes, **changes})
    )


def train_model(model, steps=400, batch_size=32, warmup=100):
    torch.set_grad_enabled(True)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    draw = random.Random(0)
    model.train()
    for step in range(1, steps + 1):
        chosen = draw.sample(train, batch_size)
        batch = tokenizer(
            [s for s, _ in chosen], text_target=[t for _, t in chosen], padding=True, return_tensors="pt"
        )
        batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
        loss = model(**batch).loss
        optimizer.param_groups[0]["lr"] = 64**-0.5 * min(step**-0.5, step * warmup**-1.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_grad_enabled(False)
    return model.eval()


def accuracy(model):
    inputs = tokenizer([source for source, _ in test], padding=True, return_tensors="pt")
    found = tokenizer.batch_decode(model.generate(**inputs, num_beams=1), skip_special_tokens=True)
    return sum(a == b for a, (_, b) in zip(found, test, strict=True)) / len(test)


start = time.process_time()
model = train_model(make_model())
scores = {"as in the paper": accuracy(model)}
print(f"{scores['as in the paper']:.0%} right after {time.process_time() - start:.0f} seconds")
print(tokenizer.decode(model.generate(**tokenizer(test[0][0], return_tensors="pt"))[0], skip_special_tokens=True))

# %% [markdown]
# ## Look inside
#
# Every number of one translation, as an object and as a page (`explanation.save("page.html")`).

# %%
explanation = explain(model, tokenizer, test[0][0])
cross = explanation.decoder.layers[-1].cross_attention.attention.weights.mean(dim=0)
for token, row in zip(explanation.target_tokens, cross, strict=True):
    print(f"{token:>8} looks at {explanation.source_tokens[row.argmax()]}")

# %% [markdown]
# ## Exercises
#
# What happens to the score if you
#
# 1. change ReLU to GELU,
# 2. take one layer in the place of two,
# 3. take one head in the place of four,
# 4. leave out the positions?
#
# Guess first. Then write the change and run the next cell.

# %% [markdown]
# ## Solutions
#
# The first three are fields of the configuration. For the last one the module of the positions is replaced.


# %%
class NoPositions(torch.nn.Module):
    def forward(self, position_ids, dtype=None):
        return torch.zeros(*position_ids.shape, 64, dtype=dtype)


def without_positions():
    changed = make_model()
    changed.model.encoder.embed_positions = NoPositions()
    changed.model.decoder.embed_positions = NoPositions()
    return changed


exercises = {
    "GELU": lambda: make_model(hidden_act="gelu"),
    "one layer": lambda: make_model(encoder_layers=1, decoder_layers=1),
    "one head": lambda: make_model(num_attention_heads=1),
    "no positions": without_positions,
}
for name, make in exercises.items():
    scores[name] = accuracy(train_model(make()))
for name, value in scores.items():
    print(f"{name:>16}: {value:.0%}")

# %% [markdown]
# Without positions the encoder sees a bag of words: it cannot tell which of the two animals sees the other, and which
# adjective belongs to which, so that most sentences are wrong. Activation, layers and heads change the speed of
# learning: such a small language is easy for all of them, so do not conclude much from one seed. The paper's Table 3
# asks the same questions on a real corpus.
