# SPDX-License-Identifier: Apache-2.0
"""Train the checkpoints tiny-gpt2 and tiny-llama: 0.2 million parameters that write King James prose.

The text is the King James Bible of 1611, whose copyright has expired, from two Debian packages::

    apt-get install bible-kjv bible-kjv-text
    bible -f Gen1:1-Rev22:21 </dev/null >kjv.txt        # one verse per line, with labels
    python designs/checkpoints/train_tiny.py gpt2 kjv.txt
    python designs/checkpoints/train_tiny.py llama kjv.txt --steps 2400

Needs PyTorch (the CPU build is enough), numpy and safetensors; PyTorch is not a dependency of
hwgen. With one thread, the same PyTorch and the same processor the result repeats bit for bit;
elsewhere it repeats in quality. Writes, below designs/:

- ``checkpoints/tiny-FAMILY/config.json`` and ``model.safetensors`` (Hugging Face names, float16),
  from the step with the best held-out loss;
- ``checkpoints/tiny-FAMILY/training.json``: the facts of the run;
- ``texts/kjv-heldout.txt``: the start of the held-out text, for perplexity;
- ``texts/kjv-calibration.txt``: passages of the training text, for calibration.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

DESIGNS = Path(__file__).resolve().parents[1]
VOCABULARY, WIDTH, LAYERS, HEADS, CONTEXT = 128, 64, 4, 4, 256
HELD_OUT = 0.03
WEIGHT_DECAY, BETAS, CLIP = 0.1, (0.9, 0.99), 1.0
WARM_UP, LAST_RATE = 200, 0.02
EVALUATE_EVERY = 250


class Conv1D(nn.Module):
    """GPT-2's linear layer: the weight is stored ``[in, out]``."""

    def __init__(self, i: int, o: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(i, o) * std)
        self.bias = nn.Parameter(torch.zeros(o))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.c_attn = Conv1D(WIDTH, 3 * WIDTH, std)
        self.c_proj = Conv1D(WIDTH, WIDTH, std / math.sqrt(2 * LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        heads = (batch, tokens, HEADS, WIDTH // HEADS)
        q, k, v = (t.reshape(heads).transpose(1, 2) for t in self.c_attn(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(batch, tokens, WIDTH))


class Mlp(nn.Module):
    """The feed-forward half of a block."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.c_fc = Conv1D(WIDTH, 4 * WIDTH, std)
        self.c_proj = Conv1D(4 * WIDTH, WIDTH, std / math.sqrt(2 * LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """One layer."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(WIDTH), Attention(std)
        self.ln_2, self.mlp = nn.LayerNorm(WIDTH), Mlp(std)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt2(nn.Module):
    """GPT-2 with a tied head; its parameters carry Hugging Face's names."""

    def __init__(self, std: float = 0.06) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        nn.init.normal_(self.wte.weight, std=0.04)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.h = nn.ModuleList(Block(std) for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


KV_HEADS, LLAMA_FFN, ROPE_THETA = 2, 192, 10_000.0


class Linear(nn.Module):
    """LLaMA's linear layer: the weight is stored ``[out, in]``, and there is no bias."""

    def __init__(self, i: int, o: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i) * std)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class RmsNorm(nn.Module):
    """Rows of mean square 1, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x: Tensor) -> Tensor:
    """Turn the pair of features i and i + half of a head by the position times its frequency."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[-2])[:, None] * ROPE_THETA ** (-torch.arange(half) / half)
    a, b, c, s = x[..., :half], x[..., half:], angles.cos(), angles.sin()
    return torch.cat([a * c - b * s, b * c + a * s], dim=-1)


class LlamaAttention(nn.Module):
    """Causal self-attention; some query heads share a head of keys and values."""

    def __init__(self, std: float) -> None:
        super().__init__()
        keys = KV_HEADS * WIDTH // HEADS
        self.q_proj = Linear(WIDTH, WIDTH, std)
        self.k_proj, self.v_proj = Linear(WIDTH, keys, std), Linear(WIDTH, keys, std)
        self.o_proj = Linear(WIDTH, WIDTH, std / math.sqrt(2 * LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = (
            part(x).reshape(batch, tokens, -1, WIDTH // HEADS).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=1) for t in (rotate(k), v))
        y = F.scaled_dot_product_attention(rotate(q), k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, tokens, WIDTH))


class LlamaMlp(nn.Module):
    """The feed-forward half of a block: SwiGLU."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = Linear(WIDTH, LLAMA_FFN, std), Linear(WIDTH, LLAMA_FFN, std)
        self.down_proj = Linear(LLAMA_FFN, WIDTH, std / math.sqrt(2 * LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaBlock(nn.Module):
    """One layer."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = RmsNorm(), LlamaAttention(std)
        self.post_attention_layernorm, self.mlp = RmsNorm(), LlamaMlp(std)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """LLaMA with a head of its own; its parameters carry Hugging Face's names."""

    def __init__(self, std: float = 0.06) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        nn.init.normal_(self.embed_tokens.weight, std=0.04)
        self.layers = nn.ModuleList(LlamaBlock(std) for _ in range(LAYERS))
        self.norm = RmsNorm()
        self.lm_head = Linear(WIDTH, VOCABULARY, std)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        for block in self.layers:
            x = block(x)
        return self.lm_head(self.norm(x))


def prose(text: str) -> str:
    """Return the text without verse labels: one verse per line, an empty line between chapters."""
    lines: list[str] = []
    chapter = None
    for line in text.splitlines():
        found = re.fullmatch(r"(\S+?\d+):\d+ (.*)", line)
        if found is None:
            raise SystemExit(f"not a labelled verse: {line!r}; make the text with `bible -f`")
        if chapter not in (None, found[1]):
            lines.append("")
        chapter = found[1]
        lines.append(" ".join(found[2].split()))
    return "\n".join(lines) + "\n"


def passages(text: str, count: int, size: int) -> str:
    """Return `count` passages of about `size` characters from all over a text, of whole verses."""
    parts = []
    for i in range(count):
        start = text.index("\n", len(text) * i // count) + 1
        end = text.index("\n", start + size) + 1
        parts.append(text[start:end].strip("\n") + "\n")
    return "\n".join(parts)


def held_out_loss(model: nn.Module, data: Tensor) -> float:
    """Return nats per character in one full pass: windows side by side, every one filled."""
    windows = (len(data) - 1) // CONTEXT
    x = data[: windows * CONTEXT].view(windows, CONTEXT)
    y = data[1 : windows * CONTEXT + 1].view(windows, CONTEXT)
    total = 0.0
    with torch.no_grad():
        for a, b in zip(x.split(64), y.split(64), strict=True):
            total += F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum").item()
    return total / x.numel()


def greedy(model: nn.Module, prompt: str, count: int) -> str:
    """Return a prompt continued by the likeliest character, `count` times."""
    tokens = list(prompt.encode("ascii"))
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens[-CONTEXT:]]))[0, -1].argmax()))
    return bytes(tokens).decode("ascii")


def rate_at(step: int, steps: int, peak: float) -> float:
    """Return the learning rate: linear warm-up, then a cosine down to LAST_RATE of the peak."""
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return peak * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress)))


GPT2_CONFIG = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": VOCABULARY,
    "n_positions": CONTEXT,
    "n_embd": WIDTH,
    "n_layer": LAYERS,
    "n_head": HEADS,
    "n_inner": None,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "tie_word_embeddings": True,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "bos_token_id": None,
    "eos_token_id": None,
    "torch_dtype": "float16",
    "hwgen_tokenizer": "bytes",
}

LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": LLAMA_FFN,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": ROPE_THETA,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "torch_dtype": "float16",
    "hwgen_tokenizer": "bytes",
}

FAMILIES = {
    "gpt2": (Gpt2, GPT2_CONFIG, "transformer."),
    "llama": (Llama, LLAMA_CONFIG, "model."),
}
"""Of each family: the model, its config.json, and the prefix of its parameters but the head's."""


def save(folder: Path, family: str, stored: dict[str, Tensor]) -> None:
    """Write config.json and model.safetensors, each in one move."""
    _, config, prefix = FAMILIES[family]
    named = {
        n if n.startswith("lm_head.") else prefix + n: p.contiguous() for n, p in stored.items()
    }
    save_file(named, folder / "model.part", metadata={"format": "pt"})
    (folder / "model.part").chmod(0o644)
    (folder / "model.part").replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def train(arguments: argparse.Namespace) -> None:
    """Train, and write the checkpoint and the texts."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    draw = np.random.default_rng(arguments.seed)
    text = prose(Path(arguments.text).read_text(encoding="ascii"))
    split = text.index("\n\n", int(len(text) * (1 - HELD_OUT))) + 2
    learnt, kept = text[:split], text[split:]
    data = torch.tensor(list(learnt.encode("ascii")))
    test = torch.tensor(list(kept.encode("ascii")))
    folder, texts = (
        Path(arguments.out) / f"checkpoints/tiny-{arguments.family}",
        Path(arguments.out) / "texts",
    )
    folder.mkdir(parents=True, exist_ok=True)
    texts.mkdir(parents=True, exist_ok=True)
    (texts / "kjv-heldout.txt").write_text(kept[: kept.index("\n", 24_000) + 1])
    (texts / "kjv-calibration.txt").write_text(passages(learnt, count=8, size=1500))

    model = FAMILIES[arguments.family][0]()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": WEIGHT_DECAY},
            {"params": vectors, "weight_decay": 0},
        ],
        lr=arguments.rate,
        betas=BETAS,
        fused=True,
    )
    best, best_step = math.inf, 0
    stored: dict[str, Tensor] = {}
    began, running = time.monotonic(), 0.0
    for step in range(1, arguments.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step - 1, arguments.steps, arguments.rate)
        offsets = torch.from_numpy(draw.integers(0, len(data) - CONTEXT, arguments.batch))
        window = data[offsets[:, None] + torch.arange(CONTEXT + 1)]
        logits = model(window[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        running += loss.item()
        if step % EVALUATE_EVERY == 0 or step == arguments.steps:
            measured = held_out_loss(model, test)
            if measured < best:
                best, best_step = measured, step
                stored = {n: p.half() for n, p in model.state_dict().items()}
                save(folder, arguments.family, stored)
            count = step % EVALUATE_EVERY or EVALUATE_EVERY
            print(
                f"step {step:6d}  train {running / count / math.log(2):.4f}  "
                f"held out {measured / math.log(2):.4f} bits/char  "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
            running = 0.0

    model.load_state_dict({n: p.float() for n, p in stored.items()})
    measured = held_out_loss(model, test)
    samples = [greedy(model, prompt, 200) for prompt in ("And the LORD ", "In the beginning ")]
    for sample in samples:
        print(sample, end="\n\n")

    facts = {
        "text_sha256": hashlib.sha256(text.encode("ascii")).hexdigest(),
        "text_characters": len(text),
        "training_characters": len(learnt),
        "held_out_characters": len(kept),
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": arguments.steps,
        "best_step": best_step,
        "batch": [arguments.batch, CONTEXT],
        "peak_rate": arguments.rate,
        "weight_decay": WEIGHT_DECAY,
        "seed": arguments.seed,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - began),
        "held_out_bits_per_character": round(measured / math.log(2), 4),
        "held_out_perplexity_per_character": round(math.exp(measured), 4),
        "samples": samples,
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"held out {measured / math.log(2):.4f} bits/char with float16 weights -> {folder}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("text", help="the output of `bible -f Gen1:1-Rev22:21`")
    parser.add_argument("--steps", type=int, default=4800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1611)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default=str(DESIGNS), help="the folder designs/")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
