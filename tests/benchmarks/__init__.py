"""How fast is jshm, against the limit of the machine and against what one would use instead?

``python -m tests.benchmarks`` (or ``make bench``) measures everything in one run, the contenders in
turn, and prints Markdown tables.
"""
