# SPDX-License-Identifier: Apache-2.0
"""Memory that a build takes of a checkpoint as large as a real one: are weights ever held whole?

``python -m benchmarks.build_memory [MODEL] [--layers N] [--target T] [-- OPTIONS OF hwgen build]``

Writes a checkpoint of the model's shape (random bfloat16 in shards, a config.json as Hugging Face has it), builds from
it in a process of its own, and samples that process: ``held`` is what it allocated, ``mapped`` are pages of the
checkpoint's files, which the system takes back when it needs them. Beside them the bytes of the weights: as they are
stored, as float32, and as the integers of the image.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from designs.cards import ModelCard, load_model_card
from designs.transformer import weight_sources

__all__ = ["main", "write_checkpoint"]

ROWS = 1 << 22
"""Numbers that are drawn at a time."""

SHARD = 1 << 29
"""Bytes of a shard, if its tensors are as many."""

WORKER = """
import sys, threading, time
from pathlib import Path

def held():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return [int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")]

peak, running = [0, 0], True
def watch():
    while running:
        peak[:] = map(max, peak, held())
        time.sleep(0.05)

watcher = threading.Thread(target=watch)
watcher.start()
from hwgen import cli
code = cli.run(sys.argv[1:])
running = False
watcher.join()
print("PEAK", *peak)
sys.exit(code)
"""


def write_checkpoint(folder: Path, card: ModelCard) -> int:
    """Write random weights of a LLaMA's shape; bytes of all tensors.

    Raises
    ------
    ValueError
        For a model of another family.
    """
    if card.family != "llama":
        raise ValueError(f"{card.name} is of family {card.family}; give a llama")
    folder.mkdir(parents=True)
    config = {
        "model_type": "llama", "hidden_size": card.width, "num_hidden_layers": card.layers,
        "num_attention_heads": card.heads, "num_key_value_heads": card.kv_heads, "intermediate_size": card.ffn,
        "vocab_size": card.vocabulary, "max_position_embeddings": card.context, "rms_norm_eps": card.norm_eps,
        "rope_theta": card.rope_theta, "hidden_act": card.activation, "tie_word_embeddings": card.tied_head,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    draw, total, places = np.random.default_rng(0), 0, {}
    for shard, names in groupby(_sharded(card), key=lambda item: item[0]):
        file = folder / f"model-{shard:05d}.safetensors"
        header, offset, shapes = {}, 0, []
        for _, name, shape in names:
            size = 2 * int(np.prod(shape))
            header[name] = {
                "dtype": "BF16",
                "shape": list(shape),
                "data_offsets": [offset, offset + size],
            }
            shapes.append(shape)
            places[name] = file.name
            offset += size
        text = json.dumps(header).encode()
        with file.open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for shape in shapes:
                for numbers in _drawn(draw, shape):
                    out.write((numbers.view(np.uint32) >> 16).astype("<u2").tobytes())
        total += offset
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def _sharded(card: ModelCard) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Shard, name and shape of every tensor."""
    filled = 0
    for name, shape in weight_sources(card).items():
        full = name if name.startswith("lm_head") else f"model.{name}"
        yield 1 + filled // SHARD, full, shape
        filled += 2 * int(np.prod(shape))


def _drawn(draw: np.random.Generator, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Numbers of a tensor in parts: around 1 of a norm, small ones of a matrix."""
    left = int(np.prod(shape))
    while left:
        count = min(left, ROWS)
        numbers = draw.standard_normal(count, np.float32)
        yield numbers * np.float32(0.02) if len(shape) > 1 else 1 + numbers * np.float32(0.1)
        left -= count


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if the build held as much as the checkpoint has, or failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build_memory")
    parser.add_argument("model", nargs="?", default="tinyllama-1.1b")
    parser.add_argument("--layers", type=int, help="of the checkpoint.  [default: the model's]")
    parser.add_argument("--target", default="u280")
    parser.add_argument("build", nargs="*", help="more options of hwgen build, behind --")
    options = parser.parse_args(arguments)
    card = load_model_card(options.model)
    card = card.model_copy(update={"layers": options.layers or card.layers})
    with tempfile.TemporaryDirectory(prefix="hwgen-checkpoint-") as name:
        folder = Path(name) / card.name
        stored = write_checkpoint(folder, card)
        shards = len(list(folder.glob("*.safetensors")))
        print(f"{card.name}, {card.layers} layers: {shards} shards", flush=True)
        command = ["build", str(folder), "--target", options.target, *options.build]
        run = subprocess.run(
            [sys.executable, "-c", WORKER, *command, "-o", str(Path(name) / "out")],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if run.returncode:
            print(run.stdout[-2000:])
            return 1
        held, mapped = map(int, run.stdout.rsplit("PEAK", 1)[1].split())
        image = (Path(name) / "out" / "weights.bin").stat().st_size
    for what, size in (
        ("checkpoint, bfloat16", stored), ("as float32", 2 * stored), ("image written", image),
        ("held at most", held), ("mapped at most", mapped),
    ):  # fmt: skip
        print(f"{what:24}{size / 1e9:8.2f} GB{size / stored:8.0%}")
    print("weights are not held whole" if held < stored else "missed: as much as all weights")
    return int(held >= stored)


if __name__ == "__main__":
    sys.exit(main())
