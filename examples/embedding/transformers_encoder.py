"""A model of Hugging Face transformers pre-trained by our objectives, and handed back.

    pip install "polymodal[text,transformers,demo]"
    python examples/embedding/transformers_encoder.py

In a config the same is `encoder: {use: text.transformers, model: distilbert, config: {...}}`, and
with `model: distilbert-base-uncased, pretrained: true` it starts from trained weights.
"""

import tempfile

import torch
from transformers import AutoModel

from polymodal import Batch, PretrainingModel, StreamInfo
from polymodal_demo.digits import Digits
from polymodal_hiding import RandomTokens
from polymodal_masking import MaskedTokens
from polymodal_text.transformers_encoder import TransformersEncoder
from polymodal_text.wordpiece import WordPiece

SMALL = {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "dropout": 0.0}


def main(steps: int = 40) -> None:
    torch.manual_seed(0)
    texts = [str(row["text"]) for row in Digits().rows(range(512))]
    tokenizer = WordPiece(vocabulary_size=200, max_tokens=32)
    tokenizer.fit(texts)
    encoder = TransformersEncoder(tokenizer.spec, model="distilbert", config=SMALL)
    info = {"text": StreamInfo(tokenizer.spec, encoder.width, encoder.causal)}
    hide = RandomTokens(0.3)
    words = MaskedTokens(info, stream="text", hide=hide)  # its head is tied to the model's table
    model = PretrainingModel(
        {"text": "text"}, {"text": encoder}, {"text": tokenizer.spec}, objectives={"words": words}
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for number in range(steps):
        rows = torch.randint(len(texts), (32,))
        tokens = tokenizer.encode([texts[row] for row in rows])
        loss = model(Batch({"text": tokens}, 32, rows), number=number)["words"]
        (loss.total / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad()
        if number % 20 == 0 or number == steps - 1:
            right, of = loss.metrics["accuracy"]
            print(f"step {number}: {right / of:.0%} of {of} hidden tokens right")

    # What was trained is a model of theirs as it ever was.
    with tempfile.TemporaryDirectory() as folder:
        encoder.model.save_pretrained(folder)
        theirs = AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer.encode(texts[:4])
    padded, filled = tokens.padded()
    with torch.no_grad():
        wanted = theirs(input_ids=padded, attention_mask=filled.long()).last_hidden_state[filled]
        gap = (encoder.eval()(tokens).vectors - wanted).abs().max()
    print(f"saved and loaded by transformers: vectors differ by at most {gap:.0e}")


if __name__ == "__main__":
    main()
