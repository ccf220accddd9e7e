# SPDX-License-Identifier: Apache-2.0
"""Model cards and the catalogue they are in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from designs import catalogue
from designs.cards import ModelCard, list_models, load_model_card
from designs.errors import DesignError

SIZES = {
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
    "tiny-gpt2": (4, 64, 4),
}


class Screw(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    length: PositiveInt
    head: str = "flat"


class TestModelCards:
    @pytest.mark.parametrize("name", SIZES)
    def test_sizes(self, name: str) -> None:
        card = load_model_card(name)
        assert (card.layers, card.width, card.heads) == SIZES[name]
        assert card.name == name
        assert card.ffn == 4 * card.width
        assert card.norm_eps == 1e-5
        assert card.tied_head

    def test_list_has_every_model(self) -> None:
        assert set(SIZES) <= set(list_models())

    def test_every_card_loads(self) -> None:
        for name in list_models():
            assert load_model_card(name).name == name

    def test_only_tiny_comes_with_weights(self) -> None:
        folder = load_model_card("tiny-gpt2").checkpoint_folder
        assert folder is not None
        assert (folder / "config.json").is_file()
        assert load_model_card("gpt2").checkpoint_folder is None

    def test_unknown_gets_the_nearest(self) -> None:
        with pytest.raises(DesignError) as error:
            load_model_card("gpt2-medum")
        assert str(error.value) == (
            'model "gpt2-medum" is not known; did you mean gpt2-medium? (hwgen list models)'
        )

    def test_unknown_without_a_near_one_lists_all(self) -> None:
        with pytest.raises(DesignError, match=r"known are .*gpt2-xl.*tiny-gpt2"):
            load_model_card("zzzz")

    def test_a_path_is_not_a_name(self) -> None:
        with pytest.raises(DesignError, match="is not known"):
            load_model_card("../models/gpt2")

    def test_width_must_divide_by_heads(self) -> None:
        with pytest.raises(ValidationError, match="65 is not one of 4"):
            ModelCard(name="x", layers=1, width=65, heads=4, ffn=4, vocabulary=4, context=4)

    def test_kinds_follow_from_the_family(self) -> None:
        sizes: dict[str, Any] = {
            "layers": 1, "width": 8, "heads": 4, "ffn": 4, "vocabulary": 4, "context": 4
        }  # fmt: skip
        llama = ModelCard(name="x", family="llama", kv_heads=2, **sizes)
        assert (llama.norm, llama.position, llama.gated, llama.biases) == (
            "rmsnorm", "rotary", True, False,
        )  # fmt: skip
        assert (llama.activation, llama.tied_head, llama.kv_heads) == ("silu", False, 2)
        opt = ModelCard(name="x", family="opt", **sizes)
        assert (opt.norm, opt.position, opt.gated, opt.biases) == (
            "layernorm", "learned", False, True,
        )  # fmt: skip
        assert (opt.activation, opt.tied_head, opt.kv_heads) == ("relu", True, 4)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"kv_heads": 3}, "heads must be a multiple of kv_heads, but 4 is not one of 3"),
            ({"width": 12}, "the head size must be even, but 12 / 4 is 3"),
            ({"family": "bert"}, "family"),
            ({"activation": "swish"}, "activation"),
            ({"rope_theta": 0.5}, "rope_theta"),
        ],
    )
    def test_refuses(self, changes: dict[str, object], message: str) -> None:
        sizes: dict[str, object] = {
            "name": "x", "family": "llama", "layers": 1, "width": 8, "heads": 4, "ffn": 4,
            "vocabulary": 4, "context": 4,
        }  # fmt: skip
        with pytest.raises(ValidationError, match=message):
            ModelCard.model_validate(sizes | changes)

    @pytest.mark.parametrize("folder", ["/somewhere", "../elsewhere"])
    def test_checkpoint_stays_inside(self, folder: str) -> None:
        with pytest.raises(ValidationError, match="inside designs/"):
            ModelCard(
                name="x", layers=1, width=4, heads=1, ffn=4, vocabulary=4, context=4,
                checkpoint=folder,
            )  # fmt: skip

    def test_frozen(self) -> None:
        with pytest.raises(ValidationError):
            load_model_card("gpt2").layers = 3  # pyright: ignore[reportAttributeAccessIssue]


class TestCatalogue:
    @pytest.fixture
    def screws(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(catalogue, "ROOT", tmp_path)
        (tmp_path / "screws").mkdir()
        return tmp_path / "screws"

    def test_name_comes_from_the_file(self, screws: Path) -> None:
        (screws / "m4.yaml").write_text("length: 12\n")
        assert catalogue.names("screws") == ["m4"]
        assert catalogue.load("screws", "screw", "m4", Screw) == Screw(name="m4", length=12)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "screws/m4.yaml: a card is a mapping of fields to values, not an empty file"),
            ("- 1\n", "a card is a mapping of fields to values, not a list"),
            ("length: [1\n", "screws/m4.yaml, line 2, column 1: not valid YAML"),
            ("head: round\n", "screws/m4.yaml: field length is missing"),
            ("length: -2\n", "field length: input should be greater than 0, not -2"),
            ("length: 1\nheat: flat\n", "field heat is not known; did you mean head?"),
            ("name: m5\nlength: 1\n", 'name is "m5", but the file says "m4"'),
        ],
    )
    def test_a_bad_card_is_one_line(self, screws: Path, text: str, message: str) -> None:
        (screws / "m4.yaml").write_text(text)
        with pytest.raises(DesignError) as error:
            catalogue.load("screws", "screw", "m4", Screw)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_an_empty_catalogue_says_so(self, screws: Path) -> None:
        assert screws.is_dir()
        with pytest.raises(DesignError, match=r'screw "m4" is not known; none is known'):
            catalogue.load("screws", "screw", "m4", Screw)
