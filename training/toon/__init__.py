"""The embedded model: its drawn characters, its training and what measures it."""
