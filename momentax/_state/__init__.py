"""Reading and changing the states of optimizers.

The state of an Optax pipeline is a tree of NamedTuples. The *node* of a velocity is the
NamedTuple that has the velocity in one of its fields. The *path* of a velocity is the
path of that field in the state, written as in Python: "[0].trace".
"""
