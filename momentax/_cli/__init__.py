"""The command line. Only `momentax.__main__` imports it."""
