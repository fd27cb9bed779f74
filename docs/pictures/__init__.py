"""The pictures of the pages under docs/ideas: a module for each page."""
