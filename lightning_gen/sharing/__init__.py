"""A model outside its run directory: weights as safetensors, the generator as a graph, a folder to share."""
