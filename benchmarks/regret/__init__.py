"""Regret: how far from the best a strategy ends, on functions that cost nothing and on networks that are trained."""
