"""Damage of every kind to all that jshm reads back: only its own errors, and nothing outside the mapping."""
