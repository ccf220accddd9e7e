# SPDX-License-Identifier: Apache-2.0
"""Files of sweeps: what is refused, and what the space holds."""

from pathlib import Path

import pytest

from designs.errors import DesignError
from generators.sweep.spec import Candidate, load_spec

SPEC = """\
model: tiny-gpt2
space:
  target: sim-small
  engine: [tree:mac, cube:opt1]
  tokens: {from: 1, to: 6}
  lanes: [8]
  weights: [int8, int4]
  group: [32, 64]
  sparsity: [dense, 2:4]
search: {points: 5, batch: 2}
"""


def spec_file(folder: Path, text: str = SPEC) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


def test_a_space_has_every_other_design_once(tmp_path):
    spec = load_spec(spec_file(tmp_path))
    assert spec.space.tokens == (1, 2, 4)
    assert spec.space.sparsity == ("dense", "2:4")  # 124 to YAML
    candidates = [Candidate.of(choice) for choice in spec.choices]
    # Groups are of int4 only: 3 formats, not 4.
    assert len(candidates) == len(set(candidates)) == 2 * 3 * 3 * 2
    assert candidates[0] == Candidate("sim-small", "tree:mac:1x8x8")
    assert candidates[-1].arguments() == [
        "--target", "sim-small", "--engine", "cube:opt1:4x8x8", "--weights", "int4",
        "--group", "64", "--sparsity", "2:4",
    ]  # fmt: skip
    assert spec.sampler == "tpe"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("model:", "modle:", "field modle is not known; did you mean model?"),
        ("lanes:", "lains:", "field space.lains is not known"),
        ("batch: 2", "batch: 2, pints: 3", "field search.pints is not known"),
        ("lanes: [8]", "lanes: []", "field space.lanes: an empty list"),
        ("from: 1, to: 6", "from: 6, to: 1", "field space.tokens: the range from 6 to 1 is empty"),
        ("from: 1, to: 6", "from: 1, upto: 6", "field space.tokens: a range is {from: A, to: B}"),
        ("from: 1, to: 6", "from: 0, to: 6", "at least 1, not 0 and 6"),
        ("  lanes: [8]\n", "", "tokens and lanes are of one shape"),
        ("tree:mac,", "tree:mac:1x8x8,", "tree:mac:1x8x8 has its own"),
        ("tree:mac,", "tree:mac, tree:mac,", "a value stands twice"),
        ("tree:mac", "three:mac", "space.engine: "),
        ("sim-small", "sim-smal", 'target "sim-smal" is not known; did you mean sim-small?'),
        ("int4]", "int5]", 'weights are int8 or int4, not "int5"'),
        ("[32, 64]", "[33]", "space.group: a group must be"),
        ("2:4", "3:4", "sparsity 3:4 is not known"),
        ("points: 5", "points: 0", "field search.points: "),
        ("search:", "limits: {luts: 5}\nsearch:", 'metric "luts" is not known; did you mean lut?'),
        ("search:", "limits: {lut: -5}\nsearch:", "the limit of lut must be above 0, not -5"),
        ("search:", "objectives: [speed]\nsearch:", 'metric "speed" is not known'),
        ("search:", "objectives: []\nsearch:", "field objectives: an empty list"),
        ("target: sim-small", "target: {a: b}", "field space.target"),
        (SPEC, "", "not an empty file"),
        (SPEC, "a: [", "not valid YAML"),
        ("{points: 5, batch: 2}", "7", "field search"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_field(tmp_path, old, new, message):
    assert old in SPEC
    with pytest.raises(DesignError) as error:
        load_spec(spec_file(tmp_path, SPEC.replace(old, new, 1)))
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{tmp_path.name}/spec.yaml")
    assert message in text


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DesignError, match=r"nowhere\.yaml is not there"):
        load_spec(tmp_path / "nowhere.yaml")


def test_a_space_of_too_many_designs(tmp_path):
    sizes = ", ".join(map(str, range(1, 500)))
    text = SPEC.replace("[8]", f"[{sizes}]").replace("{from: 1, to: 6}", f"[{sizes}]")
    with pytest.raises(DesignError, match="combinations; at most 200,000"):
        load_spec(spec_file(tmp_path, text))
