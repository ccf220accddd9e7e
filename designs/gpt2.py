"""GPT-2 as a Model: every task of every layer, and where its weights are in a checkpoint.

A task makes one tensor, and the tensor has the task's name. Layer 3 is::

    h3.ln_1     layernorm    of the residual stream                      [L, width]
    h3.q        matmul                                                   [L, width]
    h3.k h3.v   matmul       the KV cache: rows of this pass are added   [C, width]
    h3.scores   matmul       q times k transposed, by head, scaled       [heads, L, C]
    h3.softmax  softmax      causal                                      [heads, L, C]
    h3.context  matmul       p times v, by head                          [L, width]
    h3.proj     matmul                                                   [L, width]
    h3.add_1    elementwise  the residual stream                         [L, width]
    h3.ln_2     layernorm                                                [L, width]
    h3.fc1      matmul                                                   [L, ffn]
    h3.gelu     activation                                               [L, ffn]
    h3.fc2      matmul                                                   [L, width]
    h3.add_2    elementwise  the residual stream                         [L, width]

with ``embed`` (token and position) before the layers, and ``ln_f``, ``lm_head`` (logits,
``[L, vocabulary]``) and ``argmax`` (``[L]``) after them. The input is ``tokens`` ``[L]``.
Weights are named after their task: ``h3.q.weight``, ``h3.q.bias``; the tables are ``wte.weight``
and ``wpe.weight``, and a tied head reads ``wte.weight``.
"""

from __future__ import annotations

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.model import Model, Shape, Task, Tensor, TensorKind, Value

PARTS = (
    "ln_1", "q", "k", "v", "scores", "softmax", "context", "proj", "add_1",
    "ln_2", "fc1", "gelu", "fc2", "add_2",
)  # fmt: skip
"""The tasks of one layer, in program order."""


def gpt2_model(card: ModelCard) -> Model:
    """Return the task graph of a GPT-2.

    Raises
    ------
    DesignError
        If the card is of another family.
    """
    if card.family != "gpt2":
        raise DesignError(f"model {card.name} is of family {card.family}, not gpt2")
    graph = _Graph()
    width, ffn = card.width, card.ffn
    graph.tensor("tokens", ("L",), "input")
    table = graph.weight("wte.weight", (card.vocabulary, width), "wte.weight")
    positions = graph.weight("wpe.weight", (card.context, width), "wpe.weight")
    x = graph.task("embed", "embedding", ("tokens", table, positions), ("L", width))
    for i in range(card.layers):
        x = _layer(graph, card, i, x)
    x = graph.layernorm("ln_f", x, width, "ln_f", card.layernorm_eps)
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
        ffn=ffn,
        tensors=tuple(graph.tensors),
        tasks=tuple(graph.tasks),
    )


def gpt2_sources(card: ModelCard) -> dict[str, tuple[int, ...]]:
    """Return the tensors that a checkpoint must have, and their shapes.

    The names are Hugging Face's without the ``transformer.`` prefix; linear weights are
    ``[in, out]`` (Conv1D). A tied head is not among them.
    """
    width, ffn = card.width, card.ffn
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (card.vocabulary, width),
        "wpe.weight": (card.context, width),
    }
    for i in range(card.layers):
        for part, shape in (
            ("ln_1", (width,)),
            ("attn.c_attn", (width, 3 * width)),
            ("attn.c_proj", (width, width)),
            ("ln_2", (width,)),
            ("mlp.c_fc", (width, ffn)),
            ("mlp.c_proj", (ffn, width)),
        ):
            shapes[f"h.{i}.{part}.weight"] = shape
            shapes[f"h.{i}.{part}.bias"] = shape[-1:]
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (width,)
    if not card.tied_head:
        shapes["lm_head.weight"] = (card.vocabulary, width)
    return shapes


def _layer(graph: _Graph, card: ModelCard, i: int, x: str) -> str:
    """Add layer `i` on the residual stream `x`; return the new residual stream."""
    h, source, width, heads = f"h{i}", f"h.{i}", card.width, card.heads
    fused = f"{source}.attn.c_attn"
    n = graph.layernorm(f"{h}.ln_1", x, width, f"{source}.ln_1", card.layernorm_eps)
    q = graph.linear(f"{h}.q", n, width, width, fused, first=0)
    k = graph.linear(f"{h}.k", n, width, width, fused, first=width, cache=True)
    v = graph.linear(f"{h}.v", n, width, width, fused, first=2 * width, cache=True)
    square: Shape = (heads, "L", "C")
    scale = card.head_size**-0.5
    s = graph.task(
        f"{h}.scores", "matmul", (q, k), square,
        form="scores", heads=heads, scale=scale, causal=True,
    )  # fmt: skip
    p = graph.task(f"{h}.softmax", "softmax", (s,), square, causal=True)
    c = graph.task(
        f"{h}.context", "matmul", (p, v), ("L", width), form="context", heads=heads, causal=True
    )
    y = graph.linear(f"{h}.proj", c, width, width, f"{source}.attn.c_proj")
    x = graph.task(f"{h}.add_1", "elementwise", (x, y), ("L", width), operation="add")
    n = graph.layernorm(f"{h}.ln_2", x, width, f"{source}.ln_2", card.layernorm_eps)
    y = graph.linear(f"{h}.fc1", n, width, card.ffn, f"{source}.mlp.c_fc")
    y = graph.task(f"{h}.gelu", "activation", (y,), ("L", card.ffn), function=card.activation)
    y = graph.linear(f"{h}.fc2", y, card.ffn, width, f"{source}.mlp.c_proj")
    return graph.task(f"{h}.add_2", "elementwise", (x, y), ("L", width), operation="add")


class _Graph:
    """Collects tensors and tasks; each method returns the name of the tensor it made."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.tasks: list[Task] = []

    def tensor(self, name: str, shape: Shape, kind: TensorKind) -> str:
        self.tensors.append(Tensor(name=name, shape=shape, kind=kind))
        return name

    def weight(
        self, name: str, shape: Shape, source: str, columns: tuple[int, int] | None = None
    ) -> str:
        self.tensors.append(
            Tensor(name=name, shape=shape, kind="weight", source=source, columns=columns)
        )
        return name

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

    def layernorm(self, name: str, x: str, width: int, source: str, eps: float) -> str:
        weight = self.weight(f"{name}.weight", (width,), f"{source}.weight")
        bias = self.weight(f"{name}.bias", (width,), f"{source}.bias")
        return self.task(name, "layernorm", (x, weight, bias), ("L", width), eps=eps)

    def linear(
        self,
        name: str,
        x: str,
        k: int,
        n: int,
        source: str,
        *,
        first: int | None = None,
        cache: bool = False,
    ) -> str:
        columns = None if first is None else (first, first + n)
        weight = self.weight(f"{name}.weight", (k, n), f"{source}.weight", columns)
        bias = self.weight(f"{name}.bias", (n,), f"{source}.bias", columns)
        shape, made = (("C", n), "cache") if cache else (("L", n), "activation")
        return self.task(name, "matmul", (x, weight, bias), shape, made, form="linear")
