# SPDX-License-Identifier: Apache-2.0
"""A library of a few cells, written by hand: delays are a constant and a slope over the load."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def sg13g2() -> Path:
    """The library of IHP, which is not part of the repository; skips the test if it is absent."""
    given = os.environ.get("HWGEN_LIBERTY")
    path = Path(given) if given else ROOT / "../shared/data/sg13g2_stdcell_typ_1p20V_25C.lib"
    if not path.is_file():
        pytest.skip(f"no cell library at {path}: set HWGEN_LIBERTY")
    return path


def tables(names: tuple[str, ...], template: str, low: float, high: float) -> str:
    """Straight lines along the second axis; ABC fails on tables of less than 3 x 3."""
    row = f'"{low:g}, {(low + high) / 2:g}, {high:g}"'
    return " ".join(f"{name}({template}) {{ values({row}, {row}, {row}); }}" for name in names)


def _input(name: str, capacitance: float, extra: str = "") -> str:
    return f"pin({name}) {{ direction : input; capacitance : {capacitance}; {extra} }}"


def _gate(name: str, area: float, function: str, inputs: str, strength: float) -> str:
    arcs = ""
    for pin in inputs:
        delays = tables(("cell_rise", "cell_fall"), "delay", 0.02, 0.02 + 0.6 / strength)
        slews = tables(("rise_transition", "fall_transition"), "delay", 0.02, 0.02 + 0.6 / strength)
        arcs += f'timing() {{ related_pin : "{pin}"; {delays} {slews} }} '
    out = f'pin(Y) {{ direction : output; max_capacitance : 0.1; function : "{function}"; {arcs} }}'
    pins = " ".join(_input(pin, 0.002 * strength) for pin in inputs)
    return f"cell({name}) {{ area : {area}; {pins} {out} }}"


FLIP_FLOP = f"""
cell(DFF) {{
  area : 10;
  ff(IQ, IQN) {{ clocked_on : "CK"; next_state : "D"; }}
  {_input("CK", 0.003, "clock : true;")}
  pin(D) {{
    direction : input; capacitance : 0.002;
    timing() {{
      related_pin : "CK"; timing_type : setup_rising;
      {tables(("rise_constraint", "fall_constraint"), "setup", 0.05, 0.15)}
    }}
  }}
  pin(Q) {{
    direction : output; max_capacitance : 0.1; function : "IQ";
    timing() {{
      related_pin : "CK"; timing_type : rising_edge;
      {tables(("cell_rise", "cell_fall"), "delay", 0.1, 0.7)}
      {tables(("rise_transition", "fall_transition"), "delay", 0.1, 0.1)}
    }}
  }}
}}
"""

GATES = {
    "INV": _gate("INV", 1, "!A", "A", 1),
    "BUF": _gate("BUF", 2, "A", "A", 1),
    "BUF_X2": _gate("BUF_X2", 3, "A", "A", 2),
    "NAND2": _gate("NAND2", 2, "!(A*B)", "AB", 1),
    "NOR2": _gate("NOR2", 2, "!(A+B)", "AB", 1),
    "NOR2B": _gate("NOR2B", 3, "!(A+!B)", "AB", 1),
    "XOR2": _gate("XOR2", 4, "A^B", "AB", 1),
    "DLY": _gate("DLY", 2, "A", "A", 1),
}


def text(*, without: tuple[str, ...] = (), capacitance: str = "1,pf", time: str = "1ns") -> str:
    """The library without some of its cells."""
    cells = [cell for name, cell in {**GATES, "DFF": FLIP_FLOP}.items() if name not in without]
    return f"""/* by hand */
library(tiny) {{
  delay_model : table_lookup;
  time_unit : "{time}";
  voltage_unit : "1V";
  current_unit : "1mA";
  leakage_power_unit : "1nW";
  pulling_resistance_unit : "1kohm";
  capacitive_load_unit({capacitance});
  nom_process : 1; nom_voltage : 1.2; nom_temperature : 25;
  slew_lower_threshold_pct_rise : 20; slew_upper_threshold_pct_rise : 80;
  slew_lower_threshold_pct_fall : 20; slew_upper_threshold_pct_fall : 80;
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  lu_table_template(delay) {{
    variable_1 : input_net_transition; variable_2 : total_output_net_capacitance;
    index_1("0.01, 0.1, 1"); index_2("0, 0.05, 0.1");
  }}
  lu_table_template(setup) {{
    variable_1 : related_pin_transition; variable_2 : constrained_pin_transition;
    index_1("0.01, 0.1, 1"); index_2("0, 0.5, 1");
  }}
  {" ".join(cells)}
}}
"""
