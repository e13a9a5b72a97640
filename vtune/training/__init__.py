"""How trials are trained. Never chooses what to try, and never writes."""
