"""Send-VAE (arXiv 2601.05823): latents aligned with a vision foundation model through a learned, non-linear mapper."""
