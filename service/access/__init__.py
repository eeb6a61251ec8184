"""Who may ask, how much, and what is written down of it."""

from .access import Access
from .audit import AuditTrail, note_for_audit
from .exposure import require_safe_exposure
from .gate import Gate
from .scopes import requires

__all__ = ["Access", "AuditTrail", "Gate", "note_for_audit", "require_safe_exposure", "requires"]
