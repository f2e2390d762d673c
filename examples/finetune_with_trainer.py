"""
Fine-tune the bundled model with transformers' own Trainer.

    python examples/finetune_with_trainer.py
"""

from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

import vanilla_transformer  # noqa: F401 (the Auto classes find the model)

tokenizer = AutoTokenizer.from_pretrained("checkpoints/tiny-en-es")
model = AutoModelForSeq2SeqLM.from_pretrained("checkpoints/tiny-en-es")
pairs = [("The boat is red.", "El barco es rojo."), ("Where is the boat?", "¿Dónde está el barco?")] * 50
trainer = Seq2SeqTrainer(
    model=model,
    args=Seq2SeqTrainingArguments(
        output_dir="runs/fine-tuned",
        learning_rate=3e-4,
        adam_beta1=0.9,
        adam_beta2=0.98,
        adam_epsilon=1e-9,
        warmup_steps=20,
        num_train_epochs=10,
        per_device_train_batch_size=16,
        predict_with_generate=True,
    ),
    train_dataset=[dict(tokenizer(source, text_target=target)) for source, target in pairs],
    data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    processing_class=tokenizer,
)
trainer.train()
outputs = model.generate(**tokenizer("The boat is red.", return_tensors="pt").to(model.device))
print("The boat is red. ->", tokenizer.decode(outputs[0], skip_special_tokens=True))
