"""Solids out of latents: Wu et al. 2016, 3D-GAN and 3D-VAE-GAN, https://arxiv.org/abs/1610.07584"""
