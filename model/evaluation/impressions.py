"""An impression as the 5x200 protocol reads it."""

import re

__all__ = ["IMPRESSION_TOKENS", "plain_impression"]

IMPRESSION_TOKENS = 256  # special tokens included


def plain_impression(text: str) -> str:
    """Lower-case words of the sentences between full stops and list numbers; sentences of one word are dropped.

    Of each word the ASCII characters stay. Empty where no sentence has two words.
    """
    words = [re.findall(r"\w+", sentence.lower()) for sentence in re.split(r"\d+\.|\.", text.replace("\n", " "))]
    kept = [word.encode("ascii", "ignore").decode() for sentence in words if len(sentence) > 1 for word in sentence]
    return " ".join(word for word in kept if word)
