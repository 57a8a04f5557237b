"""`python -m lightning_gen`: the same as `lgen`."""

from lightning_gen.cli import main

main(prog_name="lgen")
