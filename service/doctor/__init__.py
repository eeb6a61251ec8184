"""``alta doctor``: what of an installation works, what does not, and what to do. Nothing is written.

``examine`` makes every check, each guarded: one that breaks is a finding, and the others go on.
"""

from .examination import Examination, examine
from .finding import Finding

__all__ = ["Examination", "Finding", "examine"]
