# SPDX-License-Identifier: Apache-2.0
"""The one class of the runtime: a build that generates tokens, or an engine that multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from designs import catalogue
from designs.errors import DesignError
from designs.progress import Progress, SilentProgress
from designs.tokenizer import encode_prompt, tokenizer_for
from generators.engine import FACTS
from hwgen.runtime import decoding, multiply
from sim.built import Built, load
from sim.run import check_tokens

__all__ = ["BACKENDS", "Accelerator"]

BACKENDS = ("sim", "golden", "xrt")
"""What can run a build: its RTL in the simulator, the golden model in numpy, a card behind XRT."""


class Accelerator:
    """An accelerator that was built, ready to be used; results are the same integers on every back end.

    A context manager: what the back end holds (a card, files) is given back at the end. Made by
    :meth:`load`.

    Example
    -------
    ::

        with Accelerator.load("build/tiny", backend="sim") as chip:
            tokens = chip.generate("In the beginning", 16)
            print(chip.text(tokens), chip.counters["cycles"])
    """

    def __init__(
        self, folder: Path, backend: str, built: Built | None, decoder: decoding.Decoder | None,
        multiplier: multiply.Multiplier | None,
    ) -> None:  # fmt: skip
        self._folder, self._backend, self._built = folder, backend, built
        self._decoder, self._multiplier = decoder, multiplier
        self._counters: dict[str, int] = {}
        self._cached, self._pending = 0, list[int]()
        self._closed = False

    @classmethod
    def load(
        cls,
        out: str | Path,
        backend: str = "sim",
        *,
        xclbin: str | Path | None = None,
        device: int = 0,
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Make a build ready on a back end; the simulator is compiled now, if it is not yet.

        Parameters
        ----------
        out : a folder that ``hwgen build`` or ``hwgen engine`` wrote.
        backend : one of :data:`BACKENDS`.
        xclbin : with ``"xrt"``: the linked kernel; the only one below ``out`` if left out.
        device : with ``"xrt"``: which card.
        timeout_s : with ``"xrt"``: seconds that a call may take; any time if left out.
        progress : told of the steps.

        Raises
        ------
        DesignError
            For an unknown back end, a folder that is no build, and an option of another back end; with ``"xrt"``, for
            a build without weights.
        ToolError
            If the back end cannot be used here: no compiler, no pyxrt, no card.
        """
        folder, progress = Path(out), progress or SilentProgress()
        if backend not in BACKENDS:
            raise DesignError(catalogue.unknown("back end", backend, list(BACKENDS)))
        if backend != "xrt":
            given = {
                "xclbin": xclbin is not None,
                "device": device != 0,
                "timeout_s": timeout_s is not None,
            }
            for name in (name for name, value in given.items() if value):
                raise DesignError(f"{name} is of the back end xrt, not of {backend}")
        if (folder / FACTS).is_file():
            if backend == "xrt":
                raise DesignError(
                    f"{out} is an engine alone, which has no AXI ports: use the back end sim or golden"
                )
            return cls(folder, backend, None, None, multiply.of_engine(folder, backend, progress))
        built = load(folder)
        decoder: decoding.Decoder | None = None  # of a build without weights there is none
        if backend == "golden" and built.weights is not None:
            decoder = decoding.GoldenDecoder(built)
        elif backend == "sim" and built.weights is not None:
            from hwgen.runtime.simulated import SimulatedDevice

            decoder = decoding.HardwareDecoder(built, SimulatedDevice(built, progress))
        elif backend == "xrt":
            from hwgen.runtime.xrt import XrtDevice, find_xclbin

            path = find_xclbin(folder, None if xclbin is None else Path(xclbin))
            decoder = decoding.HardwareDecoder(built, XrtDevice(built, path, device, timeout_s))
        multiplier = None if backend == "xrt" else multiply.of_core(folder, backend, progress)
        return cls(folder, backend, built, decoder, multiplier)

    # ---- Work -----------------------------------------------------------------------------------

    def generate(
        self,
        tokens: str | Sequence[int] | NDArray[np.integer],
        count: int = 16,
        *,
        resume: bool = False,
    ) -> NDArray[np.int64]:
        """Continue a prompt by ``count`` tokens, greedily.

        Parameters
        ----------
        tokens : the prompt: ids [n], or a text if the model has a tokenizer.
        count : tokens to generate; 0 only fills the cache of keys and values.
        resume : go on behind what the calls before have read and generated, instead of a new text; the prompt may
            then be empty.

        Returns
        -------
        The new ids, int64 [count].

        Raises
        ------
        DesignError
            If there is no prompt, an id is not in the vocabulary, the context is too short, or this is an engine or a
            build without weights.
        SimulationError
            If the hardware broke a rule or did not finish.
        """
        self._check_open()
        if self._built is None:
            raise DesignError(
                f"{self._folder} is an engine alone: it multiplies, and generates nothing"
            )
        if self._decoder is None:
            raise DesignError(decoding.no_weights(self._built))
        past, before = (self._cached, self._pending) if resume else (0, [])
        ids = check_tokens(self._built, before + self._ids(tokens), count, past)
        self._cached, self._pending, self._counters = (
            0,
            [],
            {},
        )  # if it fails, there is nothing to go on from
        found, self._counters = self._decoder.generate(ids, count, past)
        self._cached = past + len(ids) + max(count - 1, 0)
        self._pending = found[-1:]  # generated, but never read
        return np.array(found, np.int64)

    def matmul(self, x: NDArray[np.integer], w: NDArray[np.integer]) -> NDArray[np.int64]:
        """The exact product of two matrices of integers, tile by tile through the engine.

        An engine alone (``hwgen engine``) is used as it is; of a whole accelerator its engine's module, since the
        accelerator's own program multiplies nothing but its model's matrices.

        Parameters
        ----------
        x : activations [rows, k]; each must fit the engine's ``x_bits``.
        w : weights [k, outputs]; each must fit its ``w_bits``.

        Returns
        -------
        int64 [rows, outputs].

        Raises
        ------
        DesignError
            If shapes or ranges do not fit, the accumulators cannot hold k products, or the back end has no engine
            of its own (XRT).
        """
        self._check_open()
        if self._multiplier is None:
            raise DesignError(
                "matmul: on a card only the accelerator's registers and memories can be reached, not its engine; "
                "use the back end sim or golden"
            )
        self._counters = {}
        product, self._counters = self._multiplier.multiply(x, w)
        return product

    @property
    def counters(self) -> dict[str, int]:
        """What the hardware counted in the last call, by name; ``docs/runtime.md`` lists them.

        Empty where nothing counts: in the golden model, and on cards, since pyxrt reads no registers.
        """
        return dict(self._counters)

    # ---- Text -----------------------------------------------------------------------------------

    def text(self, tokens: Sequence[int] | NDArray[np.integer]) -> str:
        """Ids as text.

        Raises
        ------
        DesignError
            If the model has no tokenizer, or an id is outside its vocabulary.
        """
        tokenizer = (
            None if self._built is None else tokenizer_for(self._built.card, self._built.folder)
        )
        if tokenizer is None:
            raise DesignError(f"{self._folder} has no tokenizer: its tokens are numbers only")
        return tokenizer.decode(int(token) for token in tokens)

    def _ids(self, tokens: str | Sequence[int] | NDArray[np.integer]) -> list[int]:
        if isinstance(tokens, str):
            assert self._built is not None
            return encode_prompt(self._built.card, tokens, self._built.folder) if tokens else []
        ids = np.asarray(tokens)
        if ids.size == 0:
            return []
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise DesignError(
                f"tokens must be whole numbers in one row, not {ids.dtype} of shape {ids.shape}"
            )
        return ids.tolist()

    # ---- Life -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what the back end holds; may be called again."""
        if not self._closed and self._decoder is not None:
            self._decoder.close()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise DesignError(f"the accelerator of {self._folder} is closed: load it again")

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Accelerator({str(self._folder)!r}, backend={self._backend!r})"
