"""The long version of what tries to break jshm's promises: ``make torture``, one table at the end.

Each part is a module with ``torture(options)`` that yields a `Row` for each thing it tried; the suite
runs bounded versions of the same code.
"""
