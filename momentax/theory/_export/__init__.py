"""A transformation in the terms of other packages: each file builds what one of them takes."""
