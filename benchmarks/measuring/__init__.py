"""What benchmarks of speed have in common: the machine, the work that counts, and what workers did."""
