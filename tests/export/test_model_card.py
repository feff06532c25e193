"""The model card of an exported model."""

from tfrec_meta.export import signatures as names


def test_names_the_family_and_the_size_of_the_training_data(folder, model):
    card = (folder / names.EXTRA_ASSETS / names.MODEL_CARD).read_text()
    assert f"Family: {model.family}" in card
    assert "Trained on 600 events of 60 users with 30 items" in card
