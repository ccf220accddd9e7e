# SPDX-License-Identifier: Apache-2.0
"""Model cards: the sizes of a network, by name (designs/models/*.yaml)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from designs import catalogue
from designs.errors import DesignError

Layers = Annotated[int, Field(ge=1, le=1 << 12)]
Size = Annotated[int, Field(ge=1, le=1 << 28)]
"""Sizes that some network could have: others would take all time and memory before anybody sees that."""

Activation = Literal["gelu_new", "gelu", "relu", "silu"]
Tokenizer = Literal["bytes", "none"]
Family = Literal["gpt2", "llama", "opt"]
Norm = Literal["layernorm", "rmsnorm"]
Position = Literal["learned", "rotary"]


@dataclass(frozen=True)
class FamilyFacts:
    """What all models of a family have in common; the last two are only usual."""

    norm: Norm
    position: Position
    gated: bool
    biases: bool
    activation: Activation
    tied_head: bool


FAMILIES: dict[str, FamilyFacts] = {
    "gpt2": FamilyFacts("layernorm", "learned", False, True, "gelu_new", True),
    "opt": FamilyFacts("layernorm", "learned", False, True, "relu", True),
    "llama": FamilyFacts("rmsnorm", "rotary", True, False, "silu", False),
}


class ModelCard(BaseModel):
    """The sizes of a network, from which its tasks follow.

    Parameters
    ----------
    name : str
        What the user calls it.
    family : str
        Whose layers it has, and whose names its checkpoints have: ``"gpt2"``, ``"llama"`` or
        ``"opt"``. The properties `norm`, `position`, `gated` and `biases` follow from it.
    layers, width, heads, ffn, vocabulary, context : int
        Number of blocks, width of the residual stream, attention heads, width of the hidden layer,
        number of token ids, and the longest sequence. ``width`` must be a multiple of ``heads``.
    kv_heads : int
        Heads of keys and values, each shared by ``heads / kv_heads`` query heads; as many as
        ``heads`` if left out.
    norm_eps : float
        What a norm adds to the variance (or mean square).
    rope_theta : float
        Base of the frequencies of a rotary embedding; without meaning for learned positions.
    activation : str
        Activation function of the hidden layer; ``"gelu_new"`` is the tanh form of GPT-2. If left
        out, that of the family.
    tied_head : bool
        Whether the head is the transposed token embedding; if left out, as the family has it.
    checkpoint : str, optional
        Folder of the weights that come with hwgen, relative to designs/.
    tokenizer : str
        ``"bytes"`` (one token per ASCII character) or ``"none"`` (prompts are token ids).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    family: Family = "gpt2"
    layers: Layers
    width: Size
    heads: Size
    kv_heads: Size = Field(default_factory=lambda data: data.get("heads", 1))
    ffn: Size
    vocabulary: Size
    context: Size
    norm_eps: float = Field(default=1e-5, gt=0, lt=1)
    rope_theta: float = Field(default=10_000.0, gt=1)
    activation: Activation = Field(
        default_factory=lambda data: FAMILIES[data.get("family", "gpt2")].activation
    )
    tied_head: bool = Field(
        default_factory=lambda data: FAMILIES[data.get("family", "gpt2")].tied_head
    )
    checkpoint: str | None = None
    tokenizer: Tokenizer = "none"

    @model_validator(mode="after")
    def _check(self) -> ModelCard:
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, but {self.width} is not one of {self.heads}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads must be a multiple of kv_heads, but {self.heads} is not one of "
                f"{self.kv_heads}"
            )
        if self.position == "rotary" and self.head_size % 2:
            raise ValueError(
                f"a rotary embedding turns pairs of features: the head size must be even, but "
                f"{self.width} / {self.heads} is {self.head_size}"
            )
        if self.checkpoint is not None:
            folder = Path(self.checkpoint)
            if folder.is_absolute() or ".." in folder.parts:
                raise ValueError(
                    f"checkpoint must be a folder inside designs/, not {self.checkpoint!r}"
                )
        return self

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def norm(self) -> Norm:
        """What normalises the residual stream."""
        return FAMILIES[self.family].norm

    @property
    def position(self) -> Position:
        """How tokens learn their place: by rows added to the embedding, or by turned q and k."""
        return FAMILIES[self.family].position

    @property
    def gated(self) -> bool:
        """Whether the activated hidden values are multiplied by a second product (SwiGLU)."""
        return FAMILIES[self.family].gated

    @property
    def biases(self) -> bool:
        """Whether linear layers have biases."""
        return FAMILIES[self.family].biases

    @property
    def checkpoint_folder(self) -> Path | None:
        """Folder of the weights that come with hwgen, or None."""
        return None if self.checkpoint is None else catalogue.ROOT / self.checkpoint


def list_models() -> list[str]:
    """Return the names of all model cards, sorted."""
    return catalogue.names("models")


def load_model_card(name: str) -> ModelCard:
    """Load a model card by its name.

    Raises
    ------
    DesignError
        If there is no such card (with the nearest match), or its file is not a valid card.
    """
    card = catalogue.load("models", "model", name, ModelCard)
    if card.checkpoint_folder is not None and not card.checkpoint_folder.is_dir():
        raise DesignError(f"models/{name}.yaml: checkpoint {card.checkpoint} is not a folder")
    return card
