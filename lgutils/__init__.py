"""lgutils: accumulate knowledge, condense a learngene out of it, inherit it (arXiv 2305.02279).

Knowledge flows one way, and the modules follow it:

    data -> ancestry -> condense -> learngene -> inherit

Import what you need: ``from lgutils import data, inherit``. Importing ``lgutils`` alone loads nothing
heavy, so the command line answers at once.
"""

__version__ = "0.4.0"
