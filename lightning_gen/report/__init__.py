"""A run, or several over one another, as one HTML page that opens from disk and fetches nothing.

`run` reads what a run directory says of itself; `page` makes the page of it. Neither imports torch or Lightning: a
report is made while a run trains, and on machines that could not train it.
"""

from lightning_gen.report.page import page
from lightning_gen.report.run import Run, read

__all__ = ["Run", "page", "read"]
