"""Stores of Unix groups, with real users."""
