"""A model for lightning_gen, to copy. The model itself is in `model.py`."""
