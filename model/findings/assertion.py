"""Whether a report asserts, denies or suspects what it names: the scopes of negation and doubt within a clause.

In the manner of NegEx (Chapman and others 2001) and its successors: cues to the left and to the right of a term, cues
that only look like negation, and words at which a scope ends. Text is one clause in lower case.
"""

import re
from typing import Final, Literal

__all__ = ["ABSENT", "PRESENT", "UNCERTAIN", "Assertion", "assertion_of", "clauses", "masked"]

Assertion = Literal["present", "absent", "uncertain"]
PRESENT: Final = "present"
ABSENT: Final = "absent"
UNCERTAIN: Final = "uncertain"

_DEGREE = r"(?:significant|appreciable|substantial|definite|major|interval|further|clear|obvious|other|large|relevant) "
_SEEN = (
    r"(?:seen|visible|visuali[sz]ed|identified|present|apparent|evident|appreciated|demonstrated|noted|detected|shown"
    r"|found|suspected|observed)"
)
# Words of negation that deny no finding. They are blanked before anything else is looked for.
_NO_NEGATION: Final = re.compile(
    rf"\bno (?:{_DEGREE})*(?:changes?|increase|decrease|improvement|worsening|progression|difference|resolution)"
    r"(?: (?:in|of|to|from)\b)?"
    rf"|\bwithout (?:{_DEGREE})*(?:changes?|increase|decrease|improvement|worsening|progression)"
    r"|\b(?:no|not|without|failure of)(?: evidence of)?(?: complete(?:ly)?| full(?:y)?)?"
    r" (?:resolution|resolved|clearing|cleared)(?: of)?"
    # A wish of the reader's: "follow-up to document resolution of pneumonia"
    r"|\b(?:ensure|document|confirm|demonstrate|verify|establish|until) (?:\w+ ){0,2}(?:resolution|clearing)(?: of)?"
    r"|\b(?:no|without) (?:\w+ ){0,2}(?:priors?|comparisons?|previous|old)"
    r" (?:\w+ )?(?:films?|stud(?:y|ies)|exam(?:ination)?s?|radiographs?|images?|imaging|available)\b"
    # Signs of a pneumothorax, not what it is denied by
    r"|\b(?:no|without|absent|absence of|lack of) (?:\w+ ){0,2}(?:lung|vascular|pulmonary) (?:\w+ )?markings?"
    r"|\bnot (?:significantly |appreciably |substantially |much )?(?:changed|increased|decreased|improved|worsened)"
    rf"|\bnot {_SEEN} (?:previously|before|earlier|on (?:the )?(?:prior|previous|earlier))"
    rf"|\bnot (?:well |clearly )?{_SEEN} on (?:the )?(?:frontal|lateral|pa|ap|portable)"
    r"|\bnot (?:only|necessarily|well)\b|\bno doubt\b"
    r"|\b(?:near(?:ly)?|almost|partial(?:ly)?|incomplete(?:ly)?)[- ](?:complete(?:ly)? )?(?:interval )?"
    r"(?:resolution|resolved|clearing|cleared)(?: of)?"
)
_BEFORE: Final = re.compile(
    r"\b(?:no|nothing|without|negative for|free (?:of|from)|clear of|absence of|lack of|neither|nor|denies|rather than"
    r"|as opposed to|instead of|(?:argues?|arguing|evidence) against|inconsistent with|not|never"
    r"|(?:resolution|clearing|disappearance|removal) of|resolved|removed|cannot (?:see|identify)"
    r"|absent)\b"
)
_OF_ONE: Final = ("resolved", "removed")  # said of the next thing alone, not of a list
_STAYS: Final = re.compile(
    r"s?\s*(?:persists?|remains?|(?:is|are) (?:again|unchanged|stable|larger|smaller|present)"
    r"|(?:has|have) (?:developed|increased|decreased|worsened|progressed|improved))\b"
)
_AFTER: Final = re.compile(
    r"\b(?:(?:is|are|was|were|be|been)? ?(?:not|no longer|never) (?:clearly |definitely |well |currently )?"
    rf"(?:be )?{_SEEN}"
    r"|(?:has|have|had) (?:now |since |completely |subsequently |all )*(?:resolved|cleared|disappeared"
    r"|been (?:removed|withdrawn|discontinued))"
    r"|(?:is|are|was|were) (?:now )?(?:absent|removed|withdrawn|resolved|gone)"
    r"|(?:is|are|was|were|been) (?:excluded|ruled out)|ruled out"
    r"|(?:is|are|appears?) within (?:the )?(?:normal limits|limits of normal)"
    r"|completely resolved|no longer)\b|^\s*: (?:no|none|negative|absent)\b"
    r"|^\s*[(\u2013-]\s*(?:(?:none|nil|negative|absent)\b|no\W*$|\))"
    rf"|\b(?:cannot|can not) be {_SEEN}\b"
)
_DOUBT_BEFORE: Final = re.compile(
    r"\b(?:(?:may|might|could|can) (?:also |well |possibly |reflect|represent|be|indicate|suggest|relate|account)"
    r"|possib(?:le|ly|ility)|probab(?:le|ly)|likely|suspect(?:ed|s)?|suspicio(?:n|us)|concern(?:ing)?|worrisome|worry|doubt(?:ful)?"
    r"|suggest(?:s|ed|ing|ive|ion)?|question(?:able|ed)?|potential(?:ly)?|presum(?:ed|ably)|equivocal|borderline"
    r"|(?:cannot|can not|can't|difficult to|could not|unable to|not possible to) (?:\w+ )?(?:exclude|rule out)"
    r"|not exclude|exclude an?|(?:is|are) not excluded|differential|consider(?:ations?|ed)?|favou?r(?:ed|s|ing)?"
    r"|perhaps|unlikely|(?:low|little) probability|either|versus|vs\.?|apparent|and/or|queried|query"
    r"|subtle suggestion)(?=\W|$)"
)
_DOUBT_AFTER: Final = re.compile(
    r"\b(?:(?:cannot|can not|can't|could not) (?:\w+ )?be (?:\w+ )?(?:excluded|ruled out)"
    r"|not (?:\w+ )?(?:excluded|ruled out)"
    rf"|(?:may|might|could) (?:also |still )?be {_SEEN}"
    r"|(?:is|are) (?:also |not )?(?:possible|likely|doubtful|suspected|questioned|considered|suggested|favou?red)"
    r"|should be considered|difficult to exclude|less likely|unlikely"
    r"|suspected|questioned"
    r"|(?:in|on) the differential|another (?:consideration|possibility))(?=\W|$)|\?"
    r"|^\W*(?:(?!for\b|represent|be\b|with\b)\w+\W+){0,3}(?:versus|vs\.?|and/or)\b"
)
# Not said of this study: a history, a question put to the reader, an advice.
_NOT_NOW: Final = re.compile(
    r"\b(?:(?:history|hx|h/o|evidence of prior|evaluat(?:e|ion)|assess(?:ment)?|correlat(?:e|ion)|screening"
    r"|status post|s/p|indication|if|rule-? ?out|r/o|to identify|to exclude|workup|concern for) )"
)
_FEW_WORDS: Final = re.compile(r"(?:\w+ ){0,4}")
_CANNOT: Final = re.compile(r"\b(?:cannot|can not|can't|could not|difficult to|unable to)\W*(?:\w+\W+)?$")
_CLAUSES: Final = re.compile(
    r"[;!\n]|\.(?=\s)|\b(?:but|however|although|though|whereas|while|nevertheless)\b"
    r"|,? (?:except|other than|apart from|aside from|with the exception)(?: of| for)?\b"
    r"|\b(?:despite|in spite of|in the setting of|in the presence of)\b"
)
# Where a negation ends: what begins here is said, not denied.
_SAID: Final = (
    r"(?:(?:a|an|the|there|this|these|small|tiny|trace|minimal|mild|moderate|large|severe|marked|stable|unchanged|new"
    r"|persistent|increas\w+|decreas\w+|worsen\w+|left|right|bilateral|bibasilar|heart|cardiac|lungs?|some|multiple|again"
    r"|minor|slight|probable|possible|patchy|normal|status)\b)"
)
_LINK: Final = re.compile(
    r",(?: and\b| with\b)?|\band\b|(?<!compatible )(?<!consistent )\bwith\b|\bdue to\b|\bsecondary to\b|\bwhich\b"
)
_CAUSE: Final = re.compile(r"\b(?:due|secondary|related) to\b")  # doubted causes are doubted findings
_OR: Final = re.compile(r"\b(?:or|nor)\b")
_VERB: Final = re.compile(r"\b(?:is|are|was|were|has|have|appears?|remains?|shows?|demonstrates?)\b")


def clauses(sentence: str) -> list[tuple[int, int]]:
    """(start, end) of the parts of a sentence, in lower case, over which no scope reaches."""
    bounds = [0, *(place for found in _CLAUSES.finditer(sentence) for place in found.span()), len(sentence)]
    return [(start, end) for start, end in zip(bounds[::2], bounds[1::2], strict=True) if start < end]


def masked(clause: str) -> str:
    """The clause with everything blanked that only looks like a negation; of the same length."""
    return _NO_NEGATION.sub(lambda found: " " * len(found.group()), clause)


def assertion_of(clause: str, start: int, end: int) -> Assertion | None:
    """What a clause (``masked``) says of the term at start..end; None where it says nothing of this study."""
    before, after = clause[:start], clause[end:]
    for cue in _NOT_NOW.finditer(before):
        if _CANNOT.search(before, 0, cue.start()):
            continue  # "cannot rule out"
        if _FEW_WORDS.fullmatch(before, cue.end()):
            return None
    if _doubted(before, after):
        return UNCERTAIN
    if _denied(before, clause[start:end], after):
        return ABSENT
    return UNCERTAIN if _alternative(before, after) else PRESENT


def _doubted(before: str, after: str) -> bool:
    cue = _last(_DOUBT_BEFORE, before)
    if cue is not None and not _ends(_CAUSE.sub(" ", before[cue.end() :]), after) and not _cancelled(before, cue):
        return True
    late = _DOUBT_AFTER.search(after)
    return late is not None and not _another_clause(after[: late.start()])


def _cancelled(before: str, cue: re.Match[str]) -> bool:
    """Whether a negation before a word of doubt makes one denial of both, as in "no suspicious nodule"."""
    negation = _last(_BEFORE, before[: cue.start()])
    if negation is None or re.search(r"exclude|rule out", cue.group()):
        return False
    between = before[negation.end() : cue.start()]
    return len(between.split()) <= 6 and not _ends(between, "")


def _denied(before: str, term: str, after: str) -> bool:
    if re.search(r"\b(?:not|no longer)\b", term):
        return True
    cue = _last(_BEFORE, before)
    if cue is not None:
        between = before[cue.end() :]
        linked = _LINK.search(between) is not None
        goes_on = linked and (cue.group() in _OF_ONE or _STAYS.match(after) is not None)
        if not goes_on and not _ends(between, after):
            return True
    late = _AFTER.search(after)
    return late is not None and not _another_clause(after[: late.start()])


def _alternative(before: str, after: str) -> bool:
    """Whether a term is one of two, as in "scarring or atelectasis"."""
    return bool(re.search(r"(?:\bor|/)\s*(?:\w+ ){0,2}$", before) or re.match(r"s?\s*(?:\bor\b|/)(?! not)", after))


def _ends(between: str, after: str) -> bool:
    """Whether the scope of a cue ends before the term that ``between`` leads to.

    A list goes on over commas; what begins like a statement of its own ends it, unless a later "or" shows that the
    list still runs.
    """
    for link in _LINK.finditer(between):
        rest = between[link.end() :]
        if link.group().endswith(("with", "which", "to")) and not rest.lstrip().startswith("no "):
            return True
        if re.match(rf"\s*{_SAID}", rest) and not _list_runs_on(rest + "|" + after):
            return True
    return False


def _list_runs_on(rest: str) -> bool:
    following = _OR.search(rest)
    return following is not None and not _VERB.search(rest[: following.start()])


def _another_clause(between: str) -> bool:
    """Whether a cue behind a term belongs to another statement: a link, then words of its own."""
    return any(
        not re.match(r"\s*(?:\w+ ){0,3}\w*\s*$", between[link.end() :]) or _VERB.search(between[: link.start()])
        for link in re.finditer(r",|\band\b|\bwith\b|\bwhich\b", between)
    )


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007
        pass
    return found
