"""Searches: what is asked, how it is answered, and where a page ended."""

from .asking import ask, next_page
from .cursor import CURSOR_SECRET
from .question import Question

__all__ = ["CURSOR_SECRET", "Question", "ask", "next_page"]
