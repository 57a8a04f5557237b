"""A model for lightning_gen. The model itself is in `model.py`."""
