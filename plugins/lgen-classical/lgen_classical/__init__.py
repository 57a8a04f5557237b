"""Explicit models of images from before deep learning, fitted in one pass: the lines under which no GAN may fall."""
