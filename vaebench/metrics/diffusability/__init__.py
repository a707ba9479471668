"""What makes latents easy or hard for diffusion: structure, spectrum, velocity ambiguity, manifold, equivariance."""
