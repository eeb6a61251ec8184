"""Evaluation: figures with intervals, and the protocols that produce them."""
