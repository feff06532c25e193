"""Checkpoints of two layers and 32 wide, made on the spot with random weights."""

import json

import numpy as np

WORDS = [
    "war",
    "army",
    "battle",
    "soldier",
    "love",
    "kiss",
    "heart",
    "bride",
    "the",
    "a",
    "of",
    "and",
    "in",
]
WIDTH, LAYERS, HIDDEN = 32, 2, 64


def write_tiny_bert(folder, kind="bert", seed=0):
    """Writes config.json, model.safetensors and tokenizer.json, as the hub has them."""
    import safetensors.numpy
    import tokenizers

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokens += [t for t in (*letters, *(f"##{letter}" for letter in letters)) if t not in tokens]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {"vocab_size": len(tokens), "max_position_embeddings": 64, "model_type": kind}
    draw = np.random.default_rng(seed)
    shapes = {}

    def dense(name, before, after):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (after, before), (after,)

    def norm(name):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (WIDTH,), (WIDTH,)

    shapes["embeddings.word_embeddings.weight"] = (len(tokens), WIDTH)
    shapes["embeddings.position_embeddings.weight"] = (64, WIDTH)
    norm("embeddings.LayerNorm")
    if kind == "bert":
        sizes |= {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
        sizes |= {"intermediate_size": HIDDEN, "type_vocab_size": 2}
        shapes["embeddings.token_type_embeddings.weight"] = (2, WIDTH)
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            for part in ("query", "key", "value"):
                dense(f"{at}.attention.self.{part}", WIDTH, WIDTH)
            dense(f"{at}.attention.output.dense", WIDTH, WIDTH)
            norm(f"{at}.attention.output.LayerNorm")
            dense(f"{at}.intermediate.dense", WIDTH, HIDDEN)
            dense(f"{at}.output.dense", HIDDEN, WIDTH)
            norm(f"{at}.output.LayerNorm")
    else:
        sizes |= {"dim": WIDTH, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": HIDDEN}
        for layer in range(LAYERS):
            at = f"transformer.layer.{layer}"
            for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
                dense(f"{at}.attention.{part}", WIDTH, WIDTH)
            norm(f"{at}.sa_layer_norm")
            dense(f"{at}.ffn.lin1", WIDTH, HIDDEN)
            dense(f"{at}.ffn.lin2", HIDDEN, WIDTH)
            norm(f"{at}.output_layer_norm")
    (folder / "config.json").write_text(json.dumps(sizes))
    state = {}
    for name, shape in shapes.items():
        is_norm = "norm" in name.lower() and name.endswith("weight")
        drawn = draw.normal(scale=0.2, size=shape) + (1.0 if is_norm else 0.0)
        state[f"{kind}.{name}"] = drawn.astype(np.float32)
    safetensors.numpy.save_file(state, folder / "model.safetensors")
    return folder
