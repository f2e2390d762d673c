"""
Train LoRA adapters on the attention of the bundled model, and save only these.

    python examples/lora.py
"""

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import vanilla_transformer  # noqa: F401 (the Auto classes find the model)

tokenizer = AutoTokenizer.from_pretrained("checkpoints/tiny-en-es")
model = AutoModelForSeq2SeqLM.from_pretrained("checkpoints/tiny-en-es")
model = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="SEQ_2_SEQ_LM"))
model.print_trainable_parameters()

pairs = {"The boat is red.": "El barco es rojo.", "Where is the boat?": "¿Dónde está el barco?"}
batch = tokenizer(list(pairs), text_target=list(pairs.values()), return_tensors="pt", padding=True)
batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(20):
    loss = model.train()(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 5 == 0:
        print(f"step {step}: loss {loss.item():.3f}")

model.eval().save_pretrained("runs/lora")
inputs = tokenizer(list(pairs), return_tensors="pt", padding=True)
print(tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True))
