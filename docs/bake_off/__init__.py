"""The page *Which momentum when*: its sentences, tables and pictures, from recorded results."""
