"""How attributes can be read off latents: how well, from how few images, how linearly, and how separately."""
