"""Keeping and giving up: backups, moving, forgetting a patient."""
