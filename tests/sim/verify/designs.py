# SPDX-License-Identifier: Apache-2.0
"""Small designs whose properties have known verdicts."""

FIFO = """
module fifo #(parameter W = 8, D = 4)(
  input clk, input rst, input in_valid, output in_ready, input [W-1:0] in_data,
  output out_valid, input out_ready, output [W-1:0] out_data);
  reg [W-1:0] mem [0:D-1];
  reg [1:0] rp, wp;
  reg [2:0] level;
  assign in_ready = level != D;
  assign out_valid = level != 0;
  assign out_data = mem[rp];
  wire push = in_valid & in_ready;
  wire pop = out_valid & out_ready;
  always @(posedge clk)
    if (rst) begin
      rp <= 0; wp <= 0; level <= 0;
    end else begin
      if (push) begin mem[wp] <= in_data; wp <= wp + 1; end
      if (pop) rp <= rp + 1;
      level <= level + push - pop;
    end
endmodule
"""

MAC = """
module mac(
  input clk, input rst, input en, input first, input signed [7:0] a, input signed [7:0] b,
  output reg signed [19:0] acc, output reg done, output reg [3:0] count);
  wire signed [15:0] product = a * b;
  always @(posedge clk)
    if (rst) begin
      acc <= 0; done <= 0; count <= 0;
    end else begin
      done <= en && count == 4'd9;
      if (en) begin
        acc <= first ? {{4{product[15]}}, product} : acc + product;
        count <= (first || count == 4'd9) ? 4'd0 : count + 4'd1;
      end
    end
endmodule
"""
