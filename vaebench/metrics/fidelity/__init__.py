"""How close a set of images is to a reference, from features of a frozen network. Pure functions on arrays."""
