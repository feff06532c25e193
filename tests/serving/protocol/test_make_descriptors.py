"""The descriptor set in the repository matches the installed packages."""

from pathlib import Path

from tfrec_meta.serving.protocol import names as protocol


def test_the_descriptor_set_is_up_to_date():
    from tfrec_meta.serving.protocol.make_descriptors import descriptor_set

    path = Path(protocol.__file__).with_name(protocol.DESCRIPTOR_FILE)
    assert path.read_bytes() == descriptor_set().SerializeToString(deterministic=True), (
        "run: python -m tfrec_meta.serving.protocol.make_descriptors"
    )
    assert path.stat().st_size < 20_000
