"""What was made of a text is found again, the last used of them, and never the text itself."""

from index.known_texts import KnownTexts


def test_what_was_made_is_made_once() -> None:
    known, made = KnownTexts[int](10), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [known.of(("a", None), make), known.of(("a", None), make), known.of(("a", ""), make)] == [1, 1, 2]
    assert known.of(("a",), make) == 3 and known.of(("ab", ""), make) == 4 and known.of(("a", "b"), make) == 5


def test_those_used_last_are_kept() -> None:
    known = KnownTexts[bytes](2)
    known.keep(("a",), b"")
    known.keep(("b",), b"b")
    assert known.find(("a",)) == b""  # and is now used later than b
    known.keep(("c",), b"c")
    assert [known.find((text,)) for text in "abc"] == [b"", None, b"c"]


def test_a_bound_of_none_keeps_nothing() -> None:
    known = KnownTexts[int](0)
    assert known.of(("a",), lambda: 1) == 1 and known.find(("a",)) is None


def test_no_text_is_held() -> None:
    known = KnownTexts[int](10)
    known.keep(("Doe^Jane has a small effusion", "lone surrogate \ud800"), 1)
    [(name, value)] = known._values.items()
    assert len(name) == 16 and value == 1
