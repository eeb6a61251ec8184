"""Searches: what is asked, how it is answered, and where a page ended."""

from .asking import ask, next_page
from .question import Question

__all__ = ["Question", "ask", "next_page"]
