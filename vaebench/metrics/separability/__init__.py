"""Whether classes lie apart in latent space, how latents are spread, and whether the space between them decodes."""
