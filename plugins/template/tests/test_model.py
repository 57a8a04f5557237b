from lightning_gen.testing import check_model


def test_the_model_keeps_the_contract() -> None:
    check_model("template")
