"""A second, slow reading of the ALTA method, sharing no code with the product.

It works on a dictionary of published parameter names, one study, one slot and one pair at a time, and writes vectors
in the form that ``benchmarks/parity.py`` reads.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

P = dict[str, torch.Tensor]


def linear(p: P, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p: P, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + eps).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def positions(width: int, side: int) -> torch.Tensor:
    rows = [[0.0] * width]
    for row in range(side):
        for column in range(side):
            values = []
            for place in (column, row):
                angles = [place * 10000 ** (-i / width) for i in range(width // 4)]
                values += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            rows.append(values)
    return torch.tensor(rows, dtype=torch.float64).float()


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, length: int | None = None) -> torch.Tensor:
    """One sequence (T, D); keys from ``length`` on are not seen."""
    width = q.shape[1] // heads
    results = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:length, part].T / math.sqrt(width)
        results.append(scores.softmax(-1) @ v[:length, part])
    return torch.cat(results, 1)


def adapter(p: P, name: str, x: torch.Tensor) -> torch.Tensor:
    return linear(p, f"{name}.D_fc2", gelu(linear(p, f"{name}.D_fc1", x)))


def vit_block(p: P, name: str, x: torch.Tensor, heads: int, adapted: bool) -> torch.Tensor:
    qkv = linear(p, f"{name}.attn.qkv", norm(p, f"{name}.norm1", x, 1e-6))
    h = linear(p, f"{name}.attn.proj", attention(*qkv.chunk(3, -1), heads))
    x = x + (h + adapter(p, f"{name}.attn_adapter", h) if adapted else h)
    n = norm(p, f"{name}.norm2", x, 1e-6)
    mlp = linear(p, f"{name}.mlp.fc2", gelu(linear(p, f"{name}.mlp.fc1", n)))
    return x + mlp + (0.5 * adapter(p, f"{name}.mlp_adapter", n) if adapted else 0)


def head(p: P, name: str, x: torch.Tensor) -> torch.Tensor:
    hidden = norm(p, f"{name}.LayerNorm", gelu(linear(p, f"{name}.dense_to_hidden", x)), 1e-12)
    return linear(p, f"{name}.dense_to_output", hidden)


def encode_image(
    p: P, image: torch.Tensor, present: bool, slot: int, kept: list[int], heads: int, depth: int
) -> torch.Tensor:
    """cls and kept patch tokens of one image (3, H, W): (1 + K, D)."""
    weight = p["patch_embed.proj.weight"]
    width, patch = weight.shape[0], weight.shape[-1]
    side = image.shape[-1] // patch
    place = positions(width, side)
    tokens = [p["cls_token"][0, 0] + place[0]]
    for index in kept:
        row, column = divmod(index, side)
        pixels = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        content = (weight * pixels).sum((1, 2, 3)) + p["patch_embed.proj.bias"]
        tokens.append((content if present else p["missing_token"][0, index]) + place[1 + index])
    added = p["view_embedding"][0, slot % 2] + p["temporal_embedding"][0, slot // 2]
    x = torch.stack(tokens) + added
    for number in range(depth):
        x = vit_block(p, f"blocks.{number}", x, heads, adapted=True)
    return norm(p, "norm", x, 1e-6)


def encode_text(
    p: P, ids: torch.Tensor, length: int, heads: int, depth: int, context: torch.Tensor | None = None
) -> torch.Tensor:
    """Last hidden states (T, D) of one text, padding included."""
    e = "bert_encoder.bert.embeddings"
    x = p[f"{e}.word_embeddings.weight"][ids] + p[f"{e}.token_type_embeddings.weight"][0]
    x = norm(p, f"{e}.LayerNorm", x + p[f"{e}.position_embeddings.weight"][: len(ids)], 1e-12)
    if context is not None:
        x = x + context
    for number in range(depth):
        n = f"bert_encoder.bert.encoder.layer.{number}"
        q, k, v = (linear(p, f"{n}.attention.self.{part}", x) for part in ("query", "key", "value"))
        h = linear(p, f"{n}.attention.output.dense", attention(q, k, v, heads, length))
        h = norm(p, f"{n}.attention.output.LayerNorm", h + x, 1e-12)
        a = h + adapter(p, f"{n}.attn_adapter", h)
        y = linear(p, f"{n}.output.dense", gelu(linear(p, f"{n}.intermediate.dense", a)))
        x = norm(p, f"{n}.output.LayerNorm", y + a, 1e-12) + 0.5 * adapter(p, f"{n}.mlp_adapter", a)
    return x


def paint(p: P, cls: torch.Tensor, patches: torch.Tensor, kept: list[int], count: int, heads: int, depth: int):
    width = p["decoder_embed.weight"].shape[0]
    tokens = [p["mask_token"][0, 0]] * count
    for index, value in zip(kept, patches, strict=True):
        tokens[index] = linear(p, "decoder_embed", value)
    x = torch.stack([linear(p, "decoder_embed", cls), *tokens]) + positions(width, round(count**0.5))
    for number in range(depth):
        x = vit_block(p, f"decoder_blocks.{number}", x, heads, adapted=False)
    return linear(p, "decoder_pred", norm(p, "decoder_norm", x, 1e-6))[1:]


def image_loss(painted: torch.Tensor, target: torch.Tensor, removed: list[int]) -> torch.Tensor:
    """Sum over the removed patches of the mean squared error; target (3, 2H, 2W)."""
    side = round(len(painted) ** 0.5)
    size = target.shape[-1] // side
    total = torch.zeros(())
    for index in removed:
        row, column = divmod(index, side)
        pixels = target[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
        values = pixels.permute(1, 2, 0).reshape(-1)
        values = (values - values.mean()) / (values.var() + 1e-6).sqrt()
        total = total + ((painted[index] - values) ** 2).mean()
    return total


def local_similarity(p: P, patches: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    one, two, three = (p[f"logit_scale_local{n}"].exp() for n in (1, 2, 3))
    over_words = (patches @ words.T).softmax(1)
    context = (over_words.T * one).softmax(1) @ patches
    relevance = [
        (word @ c) / torch.clamp(word.norm() * c.norm(), min=1e-8) for word, c in zip(words, context, strict=True)
    ]
    return (torch.stack(relevance) * two).exp().sum().log() * three


def cross_entropies(logits: torch.Tensor) -> torch.Tensor:
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def forward(p: P, batch: dict[str, np.ndarray], heads: int, text_heads: int, decoder_heads: int) -> dict:
    depth = 1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))
    decoder_depth = 1 + max(int(name.split(".")[1]) for name in p if name.startswith("decoder_blocks."))
    text_depth = 1 + max(int(name.split(".")[4]) for name in p if "encoder.layer." in name)
    b = {name: torch.tensor(value) for name, value in batch.items()}
    size = len(b["input_ids"])
    small = F.interpolate(b["current_frontal"], scale_factor=0.5, mode="bicubic", antialias=True)
    noise = b["mask_noise"].reshape(size, 4, -1)
    out: dict = {"cls": [], "patches": [], "kept": [], "painted": [], "image_embedding": [], "losses": {}}
    image_error, removed_count = torch.zeros(()), 0
    for i in range(size):
        slots = [small[i], b["current_lateral"][i], b["prior_frontal"][i], b["prior_lateral"][i]]
        count = noise.shape[2]
        kept = [sorted(range(count), key=lambda n, s=s, i=i: float(noise[i, s, n]))[: count // 4] for s in range(4)]
        tokens = [encode_image(p, slots[s], bool(b["present"][i, s]), s, kept[s], heads, depth) for s in range(4)]
        out["cls"].append(torch.stack([t[0] for t in tokens]))
        out["patches"].append(torch.cat([t[1:] for t in tokens]))
        out["kept"].append(kept[0])
        painted = paint(p, tokens[0][0], tokens[0][1:], kept[0], count, decoder_heads, decoder_depth)
        removed = sorted(set(range(count)) - set(kept[0]))
        image_error, removed_count = (
            image_error + image_loss(painted, b["current_frontal"][i], removed),
            removed_count + len(removed),
        )
        out["painted"].append(painted)
        whole = encode_image(p, small[i], True, 0, list(range(count)), heads, depth)
        out["image_embedding"].append(F.normalize(head(p, "projection_head", whole[0]), dim=0))
    lengths = b["attention_mask"].sum(1).tolist()
    mean_cls = torch.stack(out["cls"]).mean(1)
    study = F.normalize(head(p, "projection_head", mean_cls), dim=1)
    hidden = [encode_text(p, b["input_ids"][i], lengths[i], text_heads, text_depth) for i in range(size)]
    text = F.normalize(head(p, "bert_encoder.cls_projection_head", torch.stack([h[0] for h in hidden])), dim=1)
    words = [head(p, "bert_encoder.local_projection_head", h[1:n]) for h, n in zip(hidden, lengths, strict=True)]
    patches = [head(p, "local_projection_head", x) for x in out["patches"]]
    pairs = torch.stack([torch.stack([local_similarity(p, image, w) for image in patches]) for w in words])
    word_errors = []
    for i in range(size):
        context = linear(p, "bert_embed", mean_cls[i])
        h = encode_text(p, b["masked_input_ids"][i], lengths[i], text_heads, text_depth, context)
        t = "bert_encoder.cls.predictions"
        h = norm(p, f"{t}.transform.LayerNorm", gelu(linear(p, f"{t}.transform.dense", h)), 1e-12)
        logits = h @ p["bert_encoder.bert.embeddings.word_embeddings.weight"].T + p[f"{t}.bias"]
        for position in range(len(logits)):
            label = int(b["labels"][i, position])
            if label != -100:
                word_errors.append(-logits[position].log_softmax(0)[label])
    out["losses"] = {
        "contrastive": cross_entropies(p["logit_scale"].exp() * study @ text.T),
        "local_contrastive": cross_entropies(pairs),
        "image_reconstruction": image_error / removed_count,
        "text_reconstruction": torch.stack(word_errors).mean(),
    }
    return out | {"study_embedding": study, "text_embedding": text}


def write_vectors(
    prefix: Path, shapes: dict[str, list[int]], trainable: list[str], inputs, seed: int, size: int, vocabulary: int,
    heads: tuple[int, int, int],
) -> None:  # fmt: skip
    """Vectors of this reading at PREFIX.json and PREFIX.npz."""
    fixed = ("pos_embed", "decoder_pos_embed")
    p = {
        name: torch.zeros(shape) if name == "missing_token" else torch.tensor(inputs.fill(name, shape))
        for name, shape in shapes.items()
        if name not in fixed
    }
    for name in trainable:
        p[name].requires_grad_()
    out = forward(p, inputs.batch(seed, size, vocabulary), *heads)
    torch.stack(list(out["losses"].values())).sum().backward()
    patches = torch.stack(out["patches"])
    count = len(out["painted"][0])
    arrays = {
        "image_embedding": torch.stack(out["image_embedding"]),
        "text_embedding": out["text_embedding"],
        "study_embedding": out["study_embedding"],
        "cls_embed": torch.stack(out["cls"]),
        "patch_embed_first": patches[:, :3],
        "patch_embed_sum": patches.sum(-1),
        "mask": torch.tensor([[n not in kept for n in range(count)] for kept in out["kept"]]).byte(),
        "pred_first": torch.stack(out["painted"])[:, :2, :16],
    }
    np.savez(prefix.with_suffix(".npz"), **{name: value.detach().numpy() for name, value in arrays.items()})
    expected = {
        "seed": seed,
        "batch": size,
        "vocab_size": vocabulary,
        "parameters": shapes,
        "trainable": trainable,
        "losses": {name: value.item() for name, value in out["losses"].items()},
        "grad_norm": {name: p[name].grad.norm().item() for name in trainable if p[name].grad is not None},
    }
    prefix.with_suffix(".json").write_text(json.dumps(expected))
