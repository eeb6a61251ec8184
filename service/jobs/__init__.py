"""Durable jobs: what each kind does, who does it, and who is told of its end."""
