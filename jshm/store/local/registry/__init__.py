"""The catalogue of a store, in SQLite: names → versions → segments, leases, references and offers."""
