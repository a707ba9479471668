"""Disentanglement of codes (N, D) with respect to factors (N, K); how latents become codes is part of every score."""
