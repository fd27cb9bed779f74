"""The complete optimizer of hidden matrices: orthogonalized momentum, and another for the rest."""
