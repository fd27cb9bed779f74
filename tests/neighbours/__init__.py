"""Neighbours in the ecosystem: each with momentax inside, compared with a run without it."""
