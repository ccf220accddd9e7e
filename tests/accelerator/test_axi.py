# SPDX-License-Identifier: Apache-2.0
"""The real build of the tiny model between strangers' AXI models with random back-pressure."""

import json
from pathlib import Path

import pytest

from designs import quantised
from designs.progress import SilentProgress
from generators.build import BuildRequest, build
from hwgen.joins import joins
from sim import cocotb_run
from sim.built import load
from sim.golden import transformer

PROMPT = [73, 110]


@pytest.mark.slow
def test_rules_of_axi_with_back_pressure(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    build(BuildRequest("tiny-gpt2", "sim-small", out), SilentProgress(), joins())
    built = load(out)
    model = quantised.load(out / "quantised.npz", keep=None)
    tokens = transformer.generate(model, PROMPT, 2, chunk=built.chunk)
    job = {"out": str(out), "prompt": PROMPT, "tokens": [int(token) for token in tokens]}
    here = Path(__file__).parent
    cocotb_run.run(
        built.rtl, top=built.top, test_module="cocotb_axi", folder=tmp_path / "sim",
        python_path=[here.parent.parent, here], extra_env={"JOB": json.dumps(job)},
    )  # fmt: skip
