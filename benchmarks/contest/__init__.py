"""A contest: one search trained by several contestants, timed in processes of their own, and compared."""
