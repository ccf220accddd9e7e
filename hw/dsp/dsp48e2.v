// SPDX-License-Identifier: Apache-2.0
// Model of the DSP48E2 slice for simulation, written from its function tables (UG579): same name, ports and
// attributes as the vendor's cell. Never give it to synthesis: there the cell is a black box.
// Not modelled: pattern detection, CARRYOUT, wide XOR, SIMD, logic functions, CARRYINSEL other than 000,
// multiply-accumulate extension, inverted pins. Their outputs are 0; a forbidden OPMODE or ALUMODE ends the simulation.
module DSP48E2 #(
    parameter integer AREG = 1, BREG = 1, CREG = 1, DREG = 1, ADREG = 1, MREG = 1, PREG = 1,
    parameter integer ACASCREG = 1, BCASCREG = 1,
    parameter integer INMODEREG = 1, OPMODEREG = 1, ALUMODEREG = 1, CARRYINREG = 1, CARRYINSELREG = 1,
    parameter AMULTSEL = "A", BMULTSEL = "B", PREADDINSEL = "A",
    parameter A_INPUT = "DIRECT", B_INPUT = "DIRECT",
    parameter USE_MULT = "MULTIPLY", USE_SIMD = "ONE48",
    parameter [47:0] RND = 48'h0
) (
    input wire CLK,
    input wire [29:0] A, input wire [17:0] B, input wire [47:0] C, input wire [26:0] D,
    input wire [29:0] ACIN, input wire [17:0] BCIN, input wire [47:0] PCIN,
    input wire CARRYIN, input wire [2:0] CARRYINSEL, input wire CARRYCASCIN, input wire MULTSIGNIN,
    input wire [8:0] OPMODE, input wire [3:0] ALUMODE, input wire [4:0] INMODE,
    input wire CEA1, input wire CEA2, input wire CEB1, input wire CEB2, input wire CEC, input wire CED,
    input wire CEAD, input wire CEM, input wire CEP, input wire CECTRL, input wire CEALUMODE, input wire CEINMODE,
    input wire CECARRYIN,
    input wire RSTA, input wire RSTB, input wire RSTC, input wire RSTD, input wire RSTM, input wire RSTP,
    input wire RSTCTRL, input wire RSTALUMODE, input wire RSTINMODE, input wire RSTALLCARRYIN,
    output wire [47:0] P, output wire [47:0] PCOUT, output wire [29:0] ACOUT, output wire [17:0] BCOUT,
    output wire [3:0] CARRYOUT, output wire CARRYCASCOUT, output wire MULTSIGNOUT,
    output wire PATTERNDETECT, output wire PATTERNBDETECT, output wire OVERFLOW, output wire UNDERFLOW,
    output wire [7:0] XOROUT
);
  reg [29:0] a1 = 0, a2 = 0;
  reg [17:0] b1 = 0, b2 = 0;
  reg [47:0] c_reg = 0, p_reg = 0;
  reg [26:0] d_reg = 0, ad_reg = 0;
  reg [44:0] m_reg = 0;
  reg [8:0] opmode_reg = 0;
  reg [4:0] inmode_reg = 0;
  reg [3:0] alumode_reg = 0;
  reg carryin_reg = 0;

  wire [8:0] opmode = OPMODEREG == 1 ? opmode_reg : OPMODE;
  wire [4:0] inmode = INMODEREG == 1 ? inmode_reg : INMODE;
  wire [3:0] alumode = ALUMODEREG == 1 ? alumode_reg : ALUMODE;
  wire carryin = CARRYINREG == 1 ? carryin_reg : CARRYIN;

  // Operands.
  wire [29:0] a_in = A_INPUT == "CASCADE" ? ACIN : A;
  wire [17:0] b_in = B_INPUT == "CASCADE" ? BCIN : B;
  wire [29:0] a_last = AREG == 0 ? a_in : a2;
  wire [17:0] b_last = BREG == 0 ? b_in : b2;
  wire [26:0] a_mult = PREADDINSEL == "A" && inmode[1] ? 27'd0 : inmode[0] ? a1[26:0] : a_last[26:0];
  wire [17:0] b_mult = PREADDINSEL == "B" && inmode[1] ? 18'd0 : inmode[4] ? b1 : b_last;
  wire [47:0] c = CREG == 1 ? c_reg : C;

  // Pre-adder and multiplier.
  wire [26:0] d = inmode[2] ? (DREG == 1 ? d_reg : D) : 27'd0;
  wire [26:0] addend = PREADDINSEL == "B" ? {{9{b_mult[17]}}, b_mult} : a_mult;
  wire [26:0] ad_new = inmode[3] ? d - addend : d + addend;
  wire [26:0] ad = ADREG == 1 ? ad_reg : ad_new;
  wire signed [26:0] left = AMULTSEL == "AD" ? ad : a_mult;
  wire signed [17:0] right = BMULTSEL == "AD" ? ad[17:0] : b_mult;
  wire signed [44:0] product = USE_MULT == "NONE" ? 45'sd0 : left * right;
  wire [44:0] m = MREG == 1 ? m_reg : product;

  // ALU: the product comes through X, so Y adds nothing to it.
  wire [47:0] x = opmode[1:0] == 0 ? 48'd0 : opmode[1:0] == 1 ? {{3{m[44]}}, m} : opmode[1:0] == 2 ? p_reg : {a_last, b_last};
  wire [47:0] y = opmode[3:2] == 2 ? {48{1'b1}} : opmode[3:2] == 3 ? c : 48'd0;
  wire [47:0] z = opmode[6:4] == 0 ? 48'd0 : opmode[6:4] == 1 ? PCIN : opmode[6:4] == 3 ? c
    : opmode[6:4] == 5 ? {{17{PCIN[47]}}, PCIN[47:17]} : opmode[6:4] == 6 ? {{17{p_reg[47]}}, p_reg[47:17]} : p_reg;
  wire [47:0] w = opmode[8:7] == 0 ? 48'd0 : opmode[8:7] == 1 ? p_reg : opmode[8:7] == 2 ? RND : c;
  wire [47:0] total = (alumode[0] ? ~z : z) + w + x + y + {47'd0, carryin};
  wire [47:0] result = alumode[1] ? ~total : total;

  assign P = PREG == 1 ? p_reg : result;
  assign PCOUT = P;
  assign ACOUT = ACASCREG == AREG ? a_last : a1;
  assign BCOUT = BCASCREG == BREG ? b_last : b1;
  assign CARRYOUT = 4'd0;
  assign CARRYCASCOUT = 1'b0;
  assign MULTSIGNOUT = 1'b0;
  assign PATTERNDETECT = 1'b0;
  assign PATTERNBDETECT = 1'b0;
  assign OVERFLOW = 1'b0;
  assign UNDERFLOW = 1'b0;
  assign XOROUT = 8'd0;

  always @(posedge CLK) begin
    if (RSTA) a1 <= 0;
    else if (CEA1) a1 <= a_in;
    if (RSTA) a2 <= 0;
    else if (CEA2) a2 <= AREG == 2 ? a1 : a_in;
    if (RSTB) b1 <= 0;
    else if (CEB1) b1 <= b_in;
    if (RSTB) b2 <= 0;
    else if (CEB2) b2 <= BREG == 2 ? b1 : b_in;
    if (RSTC) c_reg <= 0;
    else if (CEC) c_reg <= C;
    if (RSTD) d_reg <= 0;
    else if (CED) d_reg <= D;
    if (RSTD) ad_reg <= 0;
    else if (CEAD) ad_reg <= ad_new;
    if (RSTM) m_reg <= 0;
    else if (CEM) m_reg <= product;
    if (RSTP) p_reg <= 0;
    else if (CEP) p_reg <= result;
    if (RSTCTRL) opmode_reg <= 0;
    else if (CECTRL) opmode_reg <= OPMODE;
    if (RSTALUMODE) alumode_reg <= 0;
    else if (CEALUMODE) alumode_reg <= ALUMODE;
    if (RSTINMODE) inmode_reg <= 0;
    else if (CEINMODE) inmode_reg <= INMODE;
    if (RSTALLCARRYIN) carryin_reg <= 0;
    else if (CECARRYIN) carryin_reg <= CARRYIN;

    if ((opmode[1:0] == 1) != (opmode[3:2] == 1) || opmode[6:4] == 4 || opmode[6:4] == 7 || alumode[3:2] != 0
        || CARRYINSEL != 0) begin
      $display("%m: not modelled: OPMODE %b, ALUMODE %b, CARRYINSEL %b", opmode, alumode, CARRYINSEL);
      $finish;
    end
  end

  initial
    if (USE_SIMD != "ONE48") begin
      $display("%m: USE_SIMD %s is not modelled", USE_SIMD);
      $finish;
    end
endmodule
