"""The weights that training starts from."""

from fsa_jax.training.starting_weights import parameters_only


def test_an_empty_path_restores_nothing():
    assert parameters_only("") is None


def test_only_parameters_of_a_path_are_restored():
    config = parameters_only("weights/checkpoint_0")
    assert (config.path, config.mode, config.dtype) == ("weights/checkpoint_0", "specific", "float32")
    assert config.assignment_map == [("state/.*", None)] and config.fallback_to_scratch
