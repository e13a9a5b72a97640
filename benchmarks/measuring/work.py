"""What is trained, and how much of it counts."""

from vtune.benching import MIXED, useful_flops

ONE_SHAPE = {**MIXED, "batch_size": 64, "hidden": 64, "layers": 2}
"""Networks of one size, which compile once: what a map over numbers can vary."""

__all__ = ["MIXED", "ONE_SHAPE", "useful_flops"]
