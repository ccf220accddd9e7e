// SPDX-License-Identifier: Apache-2.0
// Cuts a large memory that is written out of a design: each bit that it takes or gives becomes a cell that
// `expose -evert` turns into a port. What is only read stays: it becomes gates.
(* techmap_celltype = "$mem_v2" *)
module hwgen_memory (
  RD_CLK, RD_EN, RD_ARST, RD_SRST, RD_ADDR, RD_DATA, WR_CLK, WR_EN, WR_ADDR, WR_DATA
);
  parameter MEMID = "";
  parameter SIZE = 1;
  parameter OFFSET = 0;
  parameter ABITS = 1;
  parameter WIDTH = 1;
  parameter INIT = 0;
  parameter RD_PORTS = 1;
  parameter RD_CLK_ENABLE = 1;
  parameter RD_CLK_POLARITY = 1;
  parameter RD_TRANSPARENCY_MASK = 0;
  parameter RD_COLLISION_X_MASK = 0;
  parameter RD_WIDE_CONTINUATION = 0;
  parameter RD_CE_OVER_SRST = 0;
  parameter RD_ARST_VALUE = 0;
  parameter RD_SRST_VALUE = 0;
  parameter RD_INIT_VALUE = 0;
  parameter WR_PORTS = 1;
  parameter WR_CLK_ENABLE = 1;
  parameter WR_CLK_POLARITY = 1;
  parameter WR_PRIORITY_MASK = 0;
  parameter WR_WIDE_CONTINUATION = 0;
  input [RD_PORTS-1:0] RD_CLK, RD_EN, RD_ARST, RD_SRST;
  input [RD_PORTS*ABITS-1:0] RD_ADDR;
  output [RD_PORTS*WIDTH-1:0] RD_DATA;
  input [WR_PORTS-1:0] WR_CLK;
  input [WR_PORTS*WIDTH-1:0] WR_EN, WR_DATA;
  input [WR_PORTS*ABITS-1:0] WR_ADDR;

  // HWGEN_MACRO_BITS is set by the script that reads this.
  wire _TECHMAP_FAIL_ = WR_PORTS == 0 || SIZE * WIDTH < `HWGEN_MACRO_BITS;

  localparam TAKEN = RD_PORTS * (1 + ABITS) + WR_PORTS * (ABITS + 2 * WIDTH);
  wire [TAKEN-1:0] taken = {RD_EN, RD_ADDR, WR_EN, WR_ADDR, WR_DATA};
  genvar i;
  generate
    for (i = 0; i < TAKEN; i = i + 1) begin : take
      hwgen_macro_takes bit_ (.D(taken[i]));
    end
    for (i = 0; i < RD_PORTS * WIDTH; i = i + 1) begin : give
      hwgen_macro_gives bit_ (.Q(RD_DATA[i]));
    end
  endgenerate
endmodule
