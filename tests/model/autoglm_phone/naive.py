"""The layout once more in float64: dense, one sequence, every formula written out, nothing shared with the package."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autoglm.model.autoglm_phone import AutoGLMPhoneModel

Weights = dict[str, Tensor]


def weights_of(model: AutoGLMPhoneModel) -> Weights:
    return {name: p.detach().double() for name, p in model.named_parameters()}


def rms(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def swiglu(x: Tensor, w: Weights, at: str) -> Tensor:
    gate, up = (x @ w[f"{at}.gate_up.weight"].T).chunk(2, -1)
    return (gate * torch.sigmoid(gate) * up) @ w[f"{at}.down_proj.weight"].T


def softmax_mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """``q [t, heads, d]``, ``k, v [s, kv_heads, d]``, ``bias [t, s]`` -> ``[t, heads * d]``."""
    share = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[-1]) + bias
    return torch.einsum("hts,shd->thd", scores.softmax(-1), v).flatten(1)


def cubic(t: float) -> float:
    """Keys' kernel, a = -0.75."""
    t, a = abs(t), -0.75
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0


def position_rows(table: Tensor, rows: int, columns: int) -> Tensor:
    side = math.isqrt(table.shape[0])
    plane = table.view(side, side, -1)

    def taps(i: int, size: int) -> list[tuple[int, float]]:
        at = (i + 0.5) / size * side - 0.5
        base = math.floor(at)
        return [(min(max(base + o, 0), side - 1), cubic(at - base - o)) for o in (-1, 0, 1, 2)]

    out = [
        sum((plane[y, x] * (wy * wx) for y, wy in taps(r, rows) for x, wx in taps(c, columns)), torch.zeros(()))
        for r in range(rows)
        for c in range(columns)
    ]
    return torch.stack(out)


def vision(w: Weights, pixels: Tensor, rows: int, columns: int, heads: int, depth: int, patch: int) -> Tensor:
    """``[tokens, hidden]`` after the projector."""
    at, pixels = "model.visual", pixels.double()
    patches = [
        pixels[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].flatten()
        for r in range(rows)
        for c in range(columns)
    ]
    x = torch.stack(patches) @ w[f"{at}.patch_embed.weight"].T + w[f"{at}.patch_embed.bias"]
    x = rms(x, w[f"{at}.pre_norm.weight"])
    x = x + position_rows(w[f"{at}.embeddings.position_embedding.weight"], rows, columns)
    dim = x.shape[1] // heads
    quarter = dim // 4
    angle = torch.zeros(rows * columns, dim // 2, dtype=torch.float64)
    for p in range(rows * columns):
        for i in range(quarter):
            frequency = 10000.0 ** (-2 * i / (dim // 2))
            angle[p, i], angle[p, quarter + i] = p // columns * frequency, p % columns * frequency

    def turn(z: Tensor) -> Tensor:
        a, b = z.chunk(2, -1)
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    for n in range(depth):
        block = f"{at}.blocks.{n}"
        qkv = (rms(x, w[f"{block}.norm1.weight"]) @ w[f"{block}.attn.qkv.weight"].T).view(-1, 3, heads, dim)
        mixed = softmax_mix(turn(qkv[:, 0]), turn(qkv[:, 1]), qkv[:, 2], torch.zeros(()))
        x = x + mixed @ w[f"{block}.attn.proj.weight"].T
        x = x + swiglu(rms(x, w[f"{block}.norm2.weight"]), w, f"{block}.mlp")
    x = rms(x, w[f"{at}.post_norm.weight"])
    x = x @ w[f"{at}.projector.up.weight"].T + w[f"{at}.projector.up.bias"]
    x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return x @ w[f"{at}.projector.out.weight"].T + w[f"{at}.projector.out.bias"]


def time_mask(w: Weights, hidden: Tensor, visual: Tensor) -> Tensor:
    """``M [t, v]``."""
    at = "model.time_gate"
    q = rms(hidden @ w[f"{at}.text_proj.weight"].T, w[f"{at}.text_norm.weight"])
    k = rms(visual @ w[f"{at}.visual_proj.weight"].T, w[f"{at}.visual_norm.weight"])
    return torch.sigmoid(w[f"{at}.scale"] * (q @ k.T) / math.sqrt(q.shape[-1]) + w[f"{at}.bias"])


def decode(model: AutoGLMPhoneModel, ids: list[int], visual: list[Tensor], sees: list[list[int]]) -> Tensor:
    """Logits ``[tokens, vocab]``; token ``t`` sees the images ``sees[t]`` of ``visual``."""
    w, config = weights_of(model), model.config
    text, fusion = config.text, config.fusion
    count, dim = len(ids), text.head_dim
    rotary = int(dim * text.partial_rotary_factor)
    x = w["model.language_model.embed_tokens.weight"][ids]
    frequency = text.rope_theta ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary)
    angle = torch.arange(count, dtype=torch.float64)[:, None, None] * frequency

    def turn(z: Tensor) -> Tensor:
        a, b = z[..., 0:rotary:2], z[..., 1:rotary:2]
        pairs = torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)
        return torch.cat([pairs.flatten(-2), z[..., rotary:]], -1)

    causal = torch.full((count, count), -math.inf, dtype=torch.float64).triu(1)
    masks: list[Tensor] = []
    for layer in range(text.num_hidden_layers):
        at = f"model.language_model.layers.{layer}"
        if layer == fusion.layers[0]:
            masks = [time_mask(w, x, image) for image in visual]
        y = rms(x, w[f"{at}.input_layernorm.weight"])
        y = (y @ w[f"{at}.self_attn.qkv.weight"].T + w[f"{at}.self_attn.qkv.bias"]).view(count, -1, dim)
        q, k, v = y.split([text.num_attention_heads, text.num_key_value_heads, text.num_key_value_heads], 1)
        y = softmax_mix(turn(q), turn(k), v, causal) @ w[f"{at}.self_attn.o_proj.weight"].T
        x = x + rms(y, w[f"{at}.post_self_attn_layernorm.weight"])
        if layer in fusion.layers:
            x = x + cross(w, f"model.cross_attention.{fusion.layers.index(layer)}", x, visual, masks, sees, model)
        y = swiglu(rms(x, w[f"{at}.post_attention_layernorm.weight"]), w, f"{at}.mlp")
        x = x + rms(y, w[f"{at}.post_mlp_layernorm.weight"])
    return rms(x, w["model.language_model.norm.weight"]) @ w["lm_head.weight"].T


def cross(
    w: Weights,
    at: str,
    x: Tensor,
    visual: list[Tensor],
    masks: list[Tensor],
    sees: list[list[int]],
    model: AutoGLMPhoneModel,
) -> Tensor:
    fusion = model.config.fusion
    out = torch.zeros_like(x)
    for t, images in enumerate(sees):
        if not images:
            continue
        tokens = torch.cat([visual[i] for i in images])
        mask = torch.cat([masks[i][t] for i in images])
        q = (rms(x[t : t + 1], w[f"{at}.norm.weight"]) @ w[f"{at}.q_proj.weight"].T).view(1, fusion.num_heads, -1)
        k = (tokens @ w[f"{at}.k_proj.weight"].T).view(-1, fusion.num_kv_heads, fusion.head_dim)
        v = (tokens @ w[f"{at}.v_proj.weight"].T).view(-1, fusion.num_kv_heads, fusion.head_dim)
        q, k = rms(q, w[f"{at}.q_norm.weight"]), rms(k, w[f"{at}.k_norm.weight"])
        mixed = softmax_mix(q, k, v, mask.log()[None])
        out[t] = (torch.tanh(w[f"{at}.gate"]) * (mixed @ w[f"{at}.o_proj.weight"].T))[0]
    return out
