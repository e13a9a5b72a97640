"""Other libraries, each with what it takes to train the same trials; none imports JAX that does not use it."""
