"""From sentences to images through the space that both share: Ramesh et al. 2022, https://arxiv.org/abs/2204.06125"""
