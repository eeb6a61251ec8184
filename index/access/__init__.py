"""Who may use the archive, how much each did, and who asked what: API keys, usage, audit."""
