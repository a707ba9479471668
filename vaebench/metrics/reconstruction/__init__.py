"""How well a tokenizer gives back an image: PSNR and SSIM, per image."""
