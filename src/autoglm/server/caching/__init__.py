"""What the server remembers between requests: answers, sessions, the model list. See ``docs/caches/``."""
