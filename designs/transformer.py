# SPDX-License-Identifier: Apache-2.0
"""A decoder as a Model: every task of every layer, and where its weights are in a checkpoint.

One description serves GPT-2, OPT and LLaMA: which norm, which positions, which feed-forward part
and how many heads of keys and values is what the card says. A task makes one tensor, and the
tensor has the task's name. Layer 3 is::

    h3.ln_1       layernorm or rmsnorm  of the residual stream             [L, width]
    h3.q          matmul                                                   [L, width]
    h3.q_rotary   rotary                of a rotary model                  [L, width]
    h3.k h3.v     matmul                                                   [., kv width]
    h3.k_rotary   rotary                of a rotary model                  [C, kv width]
    h3.scores     matmul       q times k transposed, by head, scaled       [heads, L, C]
    h3.softmax    softmax      causal                                      [heads, L, C]
    h3.context    matmul       p times v, by head                          [L, width]
    h3.proj       matmul                                                   [L, width]
    h3.add_1      elementwise  the residual stream                         [L, width]
    h3.ln_2       layernorm or rmsnorm                                     [L, width]
    h3.fc1        matmul       of a gated model: gate and up side by side  [L, ffn or 2 ffn]
    h3.act        activation   of a gated model: times the up half         [L, ffn]
    h3.fc2        matmul                                                   [L, width]
    h3.add_2      elementwise  the residual stream                         [L, width]

with ``embed`` (token, and learned position) before the layers, and ``ln_f``, ``lm_head`` (logits,
``[L, vocabulary]``) and ``argmax`` (``[L]``) after them. The input is ``tokens`` ``[L]``. The KV
cache is ``k_rotary`` (``k``, without rotary) and ``v``: the rows of this pass are added to it.
Weights are named after their task: ``h3.q.weight`` ``[in, out]``, ``h3.q.bias``; a gated model has
``h3.fc1.weight`` (the gate's) and ``h3.up.weight``. The tables are ``wte.weight`` and
``wpe.weight``, and a tied head reads ``wte.weight``.
"""

from __future__ import annotations

from dataclasses import dataclass

from designs.cards import ModelCard
from designs.model import Model, Shape, Task, Tensor, TensorKind, Value

__all__ = ["PREFIXES", "transformer_model", "weight_shapes", "weight_sources"]


@dataclass(frozen=True)
class _Names:
    """What the tensors of a family are called in a checkpoint; ``{}`` is the number of the layer.

    ``fused``: q, k and v are columns of one tensor. ``transposed``: linear weights are
    ``[out, in]``. ``first_position``: row of the table of positions that is position 0.
    """

    wte: str
    layer: str
    parts: dict[str, str]
    ln_f: str
    wpe: str = ""
    fused: bool = False
    transposed: bool = True
    first_position: int = 0


_FAMILIES = {
    "gpt2": _Names(
        wte="wte", wpe="wpe", ln_f="ln_f", layer="h.{}.", fused=True, transposed=False,
        parts={
            "ln_1": "ln_1", "qkv": "attn.c_attn", "proj": "attn.c_proj",
            "ln_2": "ln_2", "fc1": "mlp.c_fc", "fc2": "mlp.c_proj",
        },
    ),
    "opt": _Names(
        wte="decoder.embed_tokens", wpe="decoder.embed_positions", first_position=2,
        ln_f="decoder.final_layer_norm", layer="decoder.layers.{}.",
        parts={
            "ln_1": "self_attn_layer_norm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
            "v": "self_attn.v_proj", "proj": "self_attn.out_proj",
            "ln_2": "final_layer_norm", "fc1": "fc1", "fc2": "fc2",
        },
    ),
    "llama": _Names(
        wte="embed_tokens", ln_f="norm", layer="layers.{}.",
        parts={
            "ln_1": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
            "v": "self_attn.v_proj", "proj": "self_attn.o_proj", "ln_2": "post_attention_layernorm",
            "fc1": "mlp.gate_proj", "up": "mlp.up_proj", "fc2": "mlp.down_proj",
        },
    ),
}  # fmt: skip

PREFIXES = {"gpt2": "transformer.", "opt": "model.", "llama": "model."}
"""What Hugging Face puts before the names of a model with a head, and not of one without."""


def transformer_model(card: ModelCard) -> Model:
    """Return the task graph of a card."""
    graph = _Graph(card)
    width, names = card.width, _FAMILIES[card.family]
    graph.tensor("tokens", ("L",), "input")
    table = graph.weight("wte.weight", (card.vocabulary, width), f"{names.wte}.weight")
    tables = (table,)
    if card.position == "learned":
        rows = (names.first_position, names.first_position + card.context)
        tables += (
            graph.weight(
                "wpe.weight", (card.context, width), f"{names.wpe}.weight",
                rows=rows if names.first_position else None,
            ),
        )  # fmt: skip
    x = graph.task("embed", "embedding", ("tokens", *tables), ("L", width))
    for i in range(card.layers):
        x = _layer(graph, i, x)
    x = graph.norm("ln_f", x, names.ln_f)
    if not card.tied_head:
        table = graph.weight("lm_head.weight", (card.vocabulary, width), "lm_head.weight")
    x = graph.task(
        "lm_head", "matmul", (x, table), ("L", card.vocabulary), form="linear", transposed=True
    )
    graph.task("argmax", "argmax", (x,), ("L",))
    return Model(
        name=card.name,
        family=card.family,
        context=card.context,
        vocabulary=card.vocabulary,
        layers=card.layers,
        width=width,
        heads=card.heads,
        kv_heads=card.kv_heads,
        ffn=card.ffn,
        tensors=tuple(graph.tensors),
        tasks=tuple(graph.tasks),
    )


def weight_shapes(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Return the weights of the Model by name, and their shapes; a tied head is not among them."""
    return {t.name: t.fixed for t in transformer_model(card).weights}


def weight_sources(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Return the tensors that a checkpoint must have, and their shapes there.

    The names are Hugging Face's without the prefix of `PREFIXES`. A tied head is not among them.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in transformer_model(card).weights:
        shape = tensor.fixed
        if tensor.rows is not None:
            shape = (tensor.rows[1], *shape[1:])
        if tensor.columns is not None:  # three side by side
            shape = (*shape[:-1], 3 * shape[-1])
        shapes[tensor.source] = shape[::-1] if tensor.transposed else shape
    return shapes


def _layer(graph: _Graph, i: int, x: str) -> str:
    """Add layer `i` on the residual stream `x`; return the new residual stream."""
    card, h = graph.card, f"h{i}"
    width, heads, kv_width = card.width, card.heads, card.kv_heads * card.head_size
    names = _FAMILIES[card.family]
    source = {part: names.layer.format(i) + name for part, name in names.parts.items()}
    rotary = card.position == "rotary"
    n = graph.norm(f"{h}.ln_1", x, source["ln_1"])

    def projection(part: str, size: int, first: int, made: TensorKind) -> str:
        turned = rotary and part != "v"
        name = graph.linear(
            f"{h}.{part}", n, width, size,
            source["qkv"] if names.fused else source[part],
            first=first if names.fused else None,
            made="activation" if turned else made,
        )  # fmt: skip
        if not turned:
            return name
        return graph.task(
            f"{h}.{part}_rotary", "rotary", (name,), ("C" if made == "cache" else "L", size), made,
            heads=size // card.head_size, theta=card.rope_theta,
        )  # fmt: skip

    q = projection("q", width, 0, "activation")
    k = projection("k", kv_width, width, "cache")
    v = projection("v", kv_width, 2 * width, "cache")
    square: Shape = (heads, "L", "C")
    shared: dict[str, Value] = {} if card.kv_heads == heads else {"kv_heads": card.kv_heads}
    s = graph.task(
        f"{h}.scores", "matmul", (q, k), square, "activation",
        form="scores", heads=heads, scale=card.head_size**-0.5, causal=True, **shared,
    )  # fmt: skip
    p = graph.task(f"{h}.softmax", "softmax", (s,), square, causal=True)
    c = graph.task(
        f"{h}.context", "matmul", (p, v), ("L", width), "activation",
        form="context", heads=heads, causal=True, **shared,
    )  # fmt: skip
    y = graph.linear(f"{h}.proj", c, width, width, source["proj"])
    x = graph.task(f"{h}.add_1", "elementwise", (x, y), ("L", width), operation="add")
    n = graph.norm(f"{h}.ln_2", x, source["ln_2"])
    if card.gated:
        gate, up = (
            graph.matrix(name, width, card.ffn, source[part])
            for name, part in ((f"{h}.fc1.weight", "fc1"), (f"{h}.up.weight", "up"))
        )
        y = graph.task(f"{h}.fc1", "matmul", (n, gate, up), ("L", 2 * card.ffn), form="pair")
        y = graph.task(
            f"{h}.act", "activation", (y,), ("L", card.ffn), function=card.activation, gated=True
        )
    else:
        y = graph.linear(f"{h}.fc1", n, width, card.ffn, source["fc1"])
        y = graph.task(f"{h}.act", "activation", (y,), ("L", card.ffn), function=card.activation)
    y = graph.linear(f"{h}.fc2", y, card.ffn, width, source["fc2"])
    return graph.task(f"{h}.add_2", "elementwise", (x, y), ("L", width), operation="add")


class _Graph:
    """Collects tensors and tasks; each method returns the name of the tensor it made."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.tensors: list[Tensor] = []
        self.tasks: list[Task] = []

    def tensor(self, name: str, shape: Shape, kind: TensorKind) -> str:
        self.tensors.append(Tensor(name=name, shape=shape, kind=kind))
        return name

    def weight(
        self,
        name: str,
        shape: Shape,
        source: str,
        columns: tuple[int, int] | None = None,
        *,
        rows: tuple[int, int] | None = None,
        transposed: bool = False,
    ) -> str:
        self.tensors.append(
            Tensor(
                name=name, shape=shape, kind="weight", source=source,
                columns=columns, rows=rows, transposed=transposed,
            )
        )  # fmt: skip
        return name

    def matrix(
        self, name: str, k: int, n: int, source: str, columns: tuple[int, int] | None = None
    ) -> str:
        """Add the weight of a linear layer."""
        transposed = _FAMILIES[self.card.family].transposed
        return self.weight(name, (k, n), f"{source}.weight", columns, transposed=transposed)

    def task(
        self,
        name: str,
        kind: str,
        inputs: tuple[str, ...],
        shape: Shape,
        made: TensorKind = "activation",
        **attributes: Value,
    ) -> str:
        pairs = tuple(sorted(attributes.items()))
        self.tasks.append(
            Task(name=name, kind=kind, inputs=inputs, outputs=(name,), attributes=pairs)
        )
        return self.tensor(name, shape, made)

    def norm(self, name: str, x: str, source: str) -> str:
        width, eps = self.card.width, self.card.norm_eps
        parts = ("weight", "bias") if self.card.norm == "layernorm" else ("weight",)
        weights = (self.weight(f"{name}.{p}", (width,), f"{source}.{p}") for p in parts)
        return self.task(name, self.card.norm, (x, *weights), ("L", width), eps=eps)

    def linear(
        self,
        name: str,
        x: str,
        k: int,
        n: int,
        source: str,
        *,
        first: int | None = None,
        made: TensorKind = "activation",
    ) -> str:
        columns = None if first is None else (first, first + n)
        inputs = (x, self.matrix(f"{name}.weight", k, n, source, columns))
        if self.card.biases:
            inputs += (self.weight(f"{name}.bias", (n,), f"{source}.bias", columns),)
        rows = "C" if made == "cache" else "L"
        return self.task(name, "matmul", inputs, (rows, n), made, form="linear")
