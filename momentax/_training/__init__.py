"""Running an optimizer: a step in one compiled program, and a whole run in one scan."""
