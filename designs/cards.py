"""Model cards: the sizes of a network, by name (designs/models/*.yaml)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from designs import catalogue
from designs.errors import DesignError

Activation = Literal["gelu_new", "gelu", "relu", "silu"]
Tokenizer = Literal["bytes", "none"]


class ModelCard(BaseModel):
    """The sizes of a network, from which its tasks follow.

    Parameters
    ----------
    name : str
        What the user calls it.
    family : str
        Whose task graph it has: ``"gpt2"``.
    layers, width, heads, ffn, vocabulary, context : int
        Number of blocks, width of the residual stream, attention heads, width of the hidden layer,
        number of token ids, and the longest sequence. ``width`` must be a multiple of ``heads``.
    layernorm_eps : float
        What LayerNorm adds to the variance.
    activation : str
        Activation function of the hidden layer; ``"gelu_new"`` is the tanh form of GPT-2.
    tied_head : bool
        Whether the head is the transposed token embedding.
    checkpoint : str, optional
        Folder of the weights that come with hwgen, relative to designs/.
    tokenizer : str
        ``"bytes"`` (one token per ASCII character) or ``"none"`` (prompts are token ids).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    family: Literal["gpt2"] = "gpt2"
    layers: PositiveInt
    width: PositiveInt
    heads: PositiveInt
    ffn: PositiveInt
    vocabulary: PositiveInt
    context: PositiveInt
    layernorm_eps: float = Field(default=1e-5, gt=0, lt=1)
    activation: Activation = "gelu_new"
    tied_head: bool = True
    checkpoint: str | None = None
    tokenizer: Tokenizer = "none"

    @model_validator(mode="after")
    def _check(self) -> ModelCard:
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, but {self.width} is not one of {self.heads}"
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
