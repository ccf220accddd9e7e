// SPDX-License-Identifier: Apache-2.0
// What `macro.v` puts in the place of a memory.
module hwgen_macro_takes (input D);
endmodule
module hwgen_macro_gives (output Q);
endmodule
