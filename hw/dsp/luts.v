// SPDX-License-Identifier: Apache-2.0
// Models of UltraScale+ logic cells for simulation: same names and ports as the vendor's. Never give them to synthesis.
module LUT6 #(parameter [63:0] INIT = 64'h0) (
    input wire I0, input wire I1, input wire I2, input wire I3, input wire I4, input wire I5, output wire O
);
  assign O = INIT[{I5, I4, I3, I2, I1, I0}];
endmodule

module MUXF7 (input wire I0, input wire I1, input wire S, output wire O);
  assign O = S ? I1 : I0;
endmodule

module MUXF8 (input wire I0, input wire I1, input wire S, output wire O);
  assign O = S ? I1 : I0;
endmodule
