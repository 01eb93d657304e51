"""The store of one machine: registry, segments and leases."""
