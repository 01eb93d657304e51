"""One segment: a file, its layout, its mapping, and how bytes get into it."""
