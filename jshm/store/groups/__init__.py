"""The store of a Unix group: the union of what its members share."""
