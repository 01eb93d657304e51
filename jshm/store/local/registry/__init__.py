"""The catalogue in SQLite: names → versions → segments, leases, and references between segments."""
