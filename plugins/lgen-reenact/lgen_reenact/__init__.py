"""Talking heads from a few frames: Zakharov et al. 2019, https://arxiv.org/abs/1905.08233"""
