"""The compiled engine: its loops, and the LLVM vectors they run on."""
