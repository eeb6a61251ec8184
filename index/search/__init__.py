"""Search over the live generation and what came since."""
