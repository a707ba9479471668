"""Floor 6: a study file becomes a graph of stages, and an engine runs what is not done yet."""
