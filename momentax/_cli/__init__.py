"""The command line. Nothing imports it but `momentax.__main__`."""
