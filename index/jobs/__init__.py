"""Durable jobs: asked for by anyone, done by whichever worker takes them, told of when they end."""
