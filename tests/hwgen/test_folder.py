# SPDX-License-Identifier: Apache-2.0
"""From a Hugging Face folder that no card describes to a build with its weights."""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from designs import quantised
from designs.cards import ModelCard
from designs.checkpoint import Checkpoint
from designs.memory_map import MemoryMap
from designs.tokenizer import HuggingFaceTokenizer
from designs.transformer import PREFIXES, weight_sources
from generators.build import CALIBRATION
from generators.image import write_image
from generators.quantise import quantise
from generators.weights import calibration_tokens
from hw.arith.digits import nonzero
from hwgen import cli
from sim import run as run_module
from sim.calibrate import observe_ranges
from sim.golden import transformer

CARD = ModelCard(name="mine", layers=2, width=64, heads=4, ffn=256, vocabulary=300, context=64)
LLAMA = ModelCard(
    name="llama", family="llama", layers=2, width=32, heads=4, kv_heads=2, ffn=48, vocabulary=90,
    context=40,
)  # fmt: skip
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


def write_shard(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, at = {}, 0
    for name, value in tensors.items():
        span = [at, at + value.nbytes]
        header[name] = {"dtype": "F16", "shape": list(value.shape), "data_offsets": span}
        at += value.nbytes
    text = json.dumps(header).encode()
    data = b"".join(value.tobytes() for value in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_folder(path: Path, *, tokenizer: bool, card: ModelCard = CARD) -> Path:
    """A random model in halves, in two files, and how it reads texts."""
    path.mkdir()
    draw, tensors = np.random.default_rng(3), {}
    for name, shape in weight_sources(card).items():
        mean = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
        value = mean + draw.normal(0, 0.2, shape)
        prefix = "" if name == "lm_head.weight" else PREFIXES[card.family]
        tensors[f"{prefix}{name}"] = value.astype(np.float16)
    names = list(tensors)
    places = dict.fromkeys(names[:9], SHARDS[0]) | dict.fromkeys(names[9:], SHARDS[1])
    for file in SHARDS:
        write_shard(path / file, {n: tensors[n] for n in names if places[n] == file})
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    config = {
        "model_type": "gpt2", "n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 300,
        "n_positions": 64,
    }  # fmt: skip
    if card.family == "llama":
        config = {
            "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
            "vocab_size": 90, "max_position_embeddings": 40, "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
        }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    if tokenizer:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
        backend.decoder = decoders.ByteLevel()  # type: ignore
        trainer = trainers.BpeTrainer(
            vocab_size=300,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>"],
            show_progress=False,
        )
        backend.train([str(CALIBRATION)], trainer)
        backend.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder") / "mine", tokenizer=True)


@pytest.fixture(scope="module")
def out(folder: Path) -> Path:
    out = folder.parent / "out"
    assert build(folder, "-o", str(out)) == 0
    return out


def build(model: Path | str, *arguments: str) -> int:
    return cli.run(["build", str(model), "--target", "sim-small", *arguments])


def expected(folder: Path) -> quantised.QuantModel:
    """The integers of a folder, made without a build."""
    checkpoint = Checkpoint.open(folder)
    weights, tokenizer = checkpoint.weights(), HuggingFaceTokenizer.open(folder)
    tokens, _ = calibration_tokens(checkpoint.card, tokenizer, CALIBRATION)
    return quantise(weights, checkpoint.card, observe_ranges(weights, checkpoint.card, tokens))


class TestLlama:
    def test_weights_are_those_of_the_folder(self, tmp_path: Path) -> None:
        """From shards without a tokenizer to the integers, and to the cycles of a token."""
        path = write_folder(tmp_path / "llama", tokenizer=False, card=LLAMA)
        out = tmp_path / "out"
        assert build(path, "-o", str(out)) == 0
        facts = json.loads((out / "design.json").read_text())
        assert ModelCard.model_validate(facts["model"]) == LLAMA
        model, built = expected(path), quantised.load(out / "quantised.npz", keep=1)
        assert built == model
        assert built.layers[0].up is not None
        memory = MemoryMap.from_dict(facts["memory_map"])
        write_image(built, memory, tmp_path / "image")
        assert (out / "weights.bin").read_bytes() == (tmp_path / "image").read_bytes()
        report = json.loads((out / "report.json").read_text())
        assert report["model"]["kv_heads"] == 2
        assert all(point["cycles"] > 0 for point in report["decode"])

    def test_a_kind_of_rope_that_we_lack(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write_folder(tmp_path / "llama", tokenizer=False, card=LLAMA)
        config = json.loads((path / "config.json").read_text())
        config["rope_scaling"] = {"rope_type": "llama3", "factor": 8.0}
        (path / "config.json").write_text(json.dumps(config))
        assert build(path, "-o", str(tmp_path / "out")) == 2
        error = capsys.readouterr().err.strip()
        assert "rope_scaling of kind 'llama3' is not supported" in error
        assert len(error.splitlines()) == 1
        assert not (tmp_path / "out").exists()


class TestBuild:
    def test_card_and_calibration(self, folder: Path, out: Path) -> None:
        design = json.loads((out / "design.json").read_text())
        report = json.loads((out / "report.json").read_text())
        assert ModelCard.model_validate(design["model"]) == CARD
        tokenizer = HuggingFaceTokenizer.open(folder)
        assert tokenizer is not None
        count = len(tokenizer.encode(CALIBRATION.read_text()))
        facts = {"source": "kjv-calibration.txt", "tokens": count}
        assert design["calibration"] == report["calibration"] == facts
        assert "tokenizer.json" in [file["path"] for file in report["files"]]
        assert "tokens of kjv-calibration.txt" in (out / "report.html").read_text()
        for name in ("design.json", "report.json", "report.html", "manifest.json"):
            assert str(folder) not in (out / name).read_text()

    def test_weights_are_those_of_the_folder(self, folder: Path, out: Path, tmp_path: Path) -> None:
        model, built = expected(folder), quantised.load(out / "quantised.npz")
        assert built == model
        prompt = [17, 299, 0, 256]
        assert transformer.generate(built, prompt, 20) == transformer.generate(model, prompt, 20)
        memory = MemoryMap.from_dict(json.loads((out / "design.json").read_text())["memory_map"])
        write_image(model, memory, tmp_path / "image")
        assert (out / "weights.bin").read_bytes() == (tmp_path / "image").read_bytes()

    def test_digits_are_those_of_the_same_integers(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(["digits", str(folder), "--quiet", "--rows", "2", "--layers"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        model = expected(folder)
        for i, layer in enumerate(model.layers):
            for name in ("k", "v", "q", "proj", "fc1", "fc2"):
                weight = getattr(layer, name).weight
                figures = next(line for line in lines if line[:1] == [f"h{i}.{name}"])
                assert int(figures[1].replace(",", "")) == weight.size
                ones = np.unpackbits(weight.view(np.uint8)).sum() / weight.size
                means = [nonzero(weight, 8, encoding=e).mean() for e in ("booth", "ent", "csd")]
                found = [float(figure) for figure in figures[4:8]]
                assert found == pytest.approx([ones, *means], abs=6e-4)
        assert [line[0] for line in lines if line[1:2] == ["csd"]] == ["weights", "activations"]

    def test_the_second_build_finds_the_first(
        self, folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = (out / "manifest.json").stat().st_mtime_ns
        assert build(folder, "-o", str(out)) == 0
        assert capsys.readouterr().out == f"{out} is up to date\n"
        assert (out / "manifest.json").stat().st_mtime_ns == before

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", SHARDS[1]])
    def test_a_change_of_the_folder_is_noticed(
        self, folder: Path, out: Path, tmp_path: Path, name: str
    ) -> None:
        from generators import manifest
        from generators.build import BuildRequest, _fingerprint

        def key(model: Path) -> object:
            request = BuildRequest(model=str(model), target="sim-small", out=out)
            return _fingerprint(request, Checkpoint.open(model).card, model)

        copy = tmp_path / folder.name
        shutil.copytree(folder, copy)
        assert key(copy) == key(folder)
        assert manifest.unchanged(out, key(copy))  # type: ignore
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:-1] + (b" }" if name.endswith("json") else b"!"))
        assert not manifest.unchanged(out, key(copy))  # type: ignore

    def test_without_a_tokenizer_it_warns(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = write_folder(tmp_path / "mute", tokenizer=False)
        out = tmp_path / "out"
        assert build(model, "-o", str(out)) == 0
        err = capsys.readouterr().err
        assert err.startswith(f"warning: {model} has no tokenizer (tokenizer.json, vocab.json, ")
        assert "were calibrated on 2,048 random token ids, not on a text" in err
        assert err.count("\n") == 1
        facts = {"source": "random token ids", "tokens": 2048}
        assert json.loads((out / "report.json").read_text())["calibration"] == facts
        assert not (out / "tokenizer.json").exists()
        assert quantised.load(out / "quantised.npz") == expected(model)
        assert cli.run(["sim", str(out), "--prompt", "In the"]) == 2
        assert "mute comes without a tokenizer" in capsys.readouterr().err


class TestText:
    def test_a_prompt_is_read_with_the_tokenizer_of_the_folder(
        self,
        folder: Path,
        out: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The simulator is a stand-in that writes a text of its own, a euro sign among it."""
        tokenizer = HuggingFaceTokenizer.open(folder)
        assert tokenizer is not None
        answer = tokenizer.encode(" God \u20ac1")

        def execute(program: Path, job: run_module.Job, on_event: object) -> run_module.Outcome:
            prompt = tokenizer.encode("In the beginning")
            assert dict(job.writes)[job.built.registers["prompt"]] == len(prompt)
            for token in answer:
                on_event({"event": "token", "token": token})  # type: ignore
            raise KeyboardInterrupt

        monkeypatch.setattr(run_module, "execute", execute)
        monkeypatch.setattr(run_module, "compile_model", lambda *a, **k: Path("simulator"))
        prompt = ["--prompt", "In the beginning", "--tokens", str(len(answer))]
        assert cli.run(["sim", str(out), *prompt]) == 130
        assert "In the beginning God \u20ac1\n" in capsys.readouterr().out


class TestMistakes:
    """One line, exit code 2, and nothing is left."""

    def refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path | str, *more: str
    ) -> str:
        assert build(model, "-o", str(tmp_path / "new" / "out"), *more) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1
        assert not (tmp_path / "new").exists()
        return err

    def test_weights_of_another_model(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        err = self.refused(tmp_path, capsys, "tiny-gpt2", "--weights-from", str(folder))
        assert "config.json: n_layer is 2, but model tiny-gpt2 has layers 4; " in err
        assert err.endswith("tensor transformer.wte.weight has shape [300, 64], not [128, 64]\n")

    def test_a_tensor_of_another_shape(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = tmp_path / "mine"
        shutil.copytree(folder, model)
        config = json.loads((model / "config.json").read_text()) | {"vocab_size": 301}
        (model / "config.json").write_text(json.dumps(config))
        err = self.refused(tmp_path, capsys, model)
        assert "tensor transformer.wte.weight has shape [300, 64]" in err
        assert "but model mine needs [301, 64]" in err

    def test_a_tokenizer_of_another_model(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = tmp_path / "mine"
        shutil.copytree(folder, model)
        tokenizer = Tokenizer(models.BPE({chr(0x100 + i): i for i in range(301)}, []))
        tokenizer.save(str(model / "tokenizer.json"))
        err = self.refused(tmp_path, capsys, model)
        assert "has token ids 0 to 300, but model mine has a vocabulary of 300" in err

    def test_no_such_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        err = self.refused(tmp_path, capsys, "./nowhere")
        assert err == "error: checkpoint nowhere is not a folder\n"

    def test_a_folder_that_is_no_model(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "empty").mkdir()
        assert "empty has no config.json" in self.refused(tmp_path, capsys, tmp_path / "empty")
