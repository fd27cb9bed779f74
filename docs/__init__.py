"""The documentation: its pages, and in `docs.pages` the code that builds a part of them."""
