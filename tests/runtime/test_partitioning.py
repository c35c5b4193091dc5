"""Meshes, layouts, and the proof of sharding: the same losses however a run is split, and parameters really split."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from tiny_network import tiny_batch, tiny_model, tiny_trainer, tiny_variables

from fsa_base.errors import SettingError
from t5x.adafactor import Adafactor, standard_logical_factor_rules
from t5x.partitioning import PjitPartitioner, make_mesh, standard_logical_axis_rules
from t5x.train_state import FlaxOptimTrainState


class FakeDevice:
    """A device of another process or a TPU; meshes only read these attributes."""

    def __init__(self, id_, process_index=0, platform="cpu", coords=None, core_on_chip=0):
        self.id, self.process_index, self.platform = id_, process_index, platform
        self.coords, self.core_on_chip = coords, core_on_chip


def partitioner_of(devices, model_size, **options) -> PjitPartitioner:
    partitioner = PjitPartitioner(num_partitions=1, **options)
    partitioner.mesh = make_mesh(devices, model_size)
    return partitioner


def train(partitioner):
    """Losses of three steps, and the state after them."""
    optimizer = Adafactor(logical_factor_rules=standard_logical_factor_rules(), min_dim_size_to_factor=8)
    model = tiny_model(optimizer, dropout_rate=0.2, z_loss=1e-3)
    trainer = tiny_trainer(model, partitioner, learning_rate=0.1)
    losses = [float(trainer.train_step(tiny_batch(seed=seed))["loss"].total) for seed in range(3)]
    return losses, trainer.train_state


@pytest.fixture(scope="module")
def on_one_device():
    return train(partitioner_of(jax.devices()[:1], 1))


@pytest.mark.parametrize(
    ("model_size", "activation_dims", "parameter_dims", "shard", "row_shard"),
    [
        (1, 1, 1, (16, 24), 16),
        (8, 1, 1, (16, 3), 16),
        (2, 1, 2, (4, 12), 4),
        # Alone, an embed dimension goes to the model axis, which the matrix has given to its other dimension.
        (2, 2, 2, (4, 12), 8),
        (4, 2, 1, (16, 6), 4),
    ],
)
def test_losses_do_not_depend_on_the_mesh(on_one_device, model_size, activation_dims, parameter_dims, shard, row_shard):
    rules = standard_logical_axis_rules(activation_dims, parameter_dims)
    losses, state = train(PjitPartitioner(num_partitions=model_size, logical_axis_rules=rules))
    np.testing.assert_allclose(losses, on_one_device[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        jax.device_get(state.params),
        jax.device_get(on_one_device[1].params),
    )
    inner = state.params["inner"]
    assert len(inner.sharding.device_set) == 8
    assert {piece.data.shape for piece in inner.addressable_shards} == {shard}
    moments = state.param_states["inner"]
    assert {piece.data.shape for piece in moments.v_row.addressable_shards} == {(row_shard,)}
    assert {piece.data.shape for piece in moments.v_col.addressable_shards} == {shard[1:]}


def test_state_axes_follow_the_rules():
    rules = standard_logical_axis_rules(parameter_partitioning_dims=2)
    partitioner = PjitPartitioner(num_partitions=2, logical_axis_rules=rules)
    state = FlaxOptimTrainState.create(Adafactor(learning_rate=1.0), tiny_variables(tiny_model(), tiny_batch()))
    assert partitioner.get_logical_axes(state).params["inner"] == PartitionSpec("embed", "mlp")
    axes = partitioner.get_mesh_axes(state)
    assert axes.params == {
        "embedding": PartitionSpec("model", "data"),
        "inner": PartitionSpec("data", "model"),
        "outer": PartitionSpec("model", "data"),
    }
    assert axes.step == PartitionSpec() and axes.param_states["inner"].v == PartitionSpec("data", "model")


def test_rules():
    assert dict(standard_logical_axis_rules())["embed"] is None
    both = standard_logical_axis_rules(2, 2, additional_rules=[("experts", "data")])
    assert [rule for rule in both if rule[0] == "embed"] == [("embed", "model"), ("embed", "data"), ("embed", None)]
    assert both[-1] == ("experts", "data")
    with pytest.raises(SettingError, match="parameter_partitioning_dims: expected 1 or 2, found 3"):
        standard_logical_axis_rules(1, 3)


def test_a_dimension_that_does_not_divide_is_named():
    partitioner = PjitPartitioner(num_partitions=8, logical_axis_rules=[("embed", "model"), ("vocab", "data")])
    state = FlaxOptimTrainState.create(
        Adafactor(learning_rate=1.0), {"params": {"p": np.zeros((12, 4))}, **axes_of("embed", "vocab")}
    )
    with pytest.raises(SettingError, match=r"dimension 0 \(embed\) to be a multiple of 8.*found 12"):
        partitioner.get_mesh_axes(state)


def axes_of(*names):
    from flax.linen.partitioning import AxisMetadata

    return {"params_axes": {"p_axes": AxisMetadata(names)}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_partitions": 3}, "a divisor of 8, the number of devices, found 3"),
        ({"num_partitions": 16}, "found 16"),
        ({"model_parallel_submesh": (2, 3, 1, 1)}, r"found \(2, 3, 1, 1\)"),
        ({"num_partitions": 2, "ici_mesh_shape": (4, 2)}, "found num_partitions, ici_mesh_shape"),
        ({"dcn_mesh_shape": (2, 1)}, "found dcn_mesh_shape"),
        ({"ici_mesh_shape": (3, 2)}, r"ici_mesh_shape = \(8, 1\)"),
        ({"ici_mesh_shape": (4, 1), "dcn_mesh_shape": (2, 1)}, "dcn's being 1"),
    ],
)
def test_impossible_meshes_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        PjitPartitioner(**options)


def test_mesh_shapes():
    assert dict(PjitPartitioner().mesh.shape) == {"data": 8, "model": 1}
    assert dict(PjitPartitioner(num_partitions=4).mesh.shape) == {"data": 2, "model": 4}
    assert dict(PjitPartitioner(model_parallel_submesh=(2, 1, 1, 1)).mesh.shape) == {"data": 4, "model": 2}
    assert dict(PjitPartitioner(ici_mesh_shape=(2, 4), dcn_mesh_shape=(1, 1)).mesh.shape) == {"data": 2, "model": 4}


def test_submeshes_are_neighbours_on_a_tpu():
    devices = [
        FakeDevice(8 * y + 2 * x + c, 0, "tpu", (x, y, 0), c) for y in range(4) for x in range(4) for c in (0, 1)
    ]
    mesh = make_mesh(devices, model_parallel_submesh=(2, 2, 1, 2))
    assert mesh.devices.shape == (4, 8)
    for group in mesh.devices:
        assert {(d.coords[0] // 2, d.coords[1] // 2) for d in group} == {
            (group[0].coords[0] // 2, group[0].coords[1] // 2)
        }


@pytest.mark.parametrize(
    ("model_size", "expected"),
    [
        (1, {0: (0, 2, True), 1: (1, 2, True)}),
        (4, {0: (0, 2, True), 1: (1, 2, True)}),
        (8, {0: (0, 1, True), 1: (0, 1, False)}),
    ],
)
def test_processes_load_their_own_part_of_a_batch(model_size, expected):
    partitioner = PjitPartitioner(num_partitions=1)
    devices = [FakeDevice(index, index // 4) for index in range(8)]
    partitioner.mesh = make_mesh(devices, model_size)
    for process, (shard, shards, first) in expected.items():
        layout = partitioner.get_data_layout(16, host_index=process)
        assert (layout.shard_id, layout.num_shards, layout.is_first_host_in_replica_set) == (shard, shards, first)
        assert layout.batch_size == 16


def test_batches_that_do_not_divide_are_refused():
    with pytest.raises(SettingError, match=r"(?s)a multiple of 4.*found 10.*--gin\.BATCH_SIZE=12"):
        PjitPartitioner(num_partitions=2).get_data_layout(10)


def test_processes_that_share_unevenly_are_refused():
    partitioner = PjitPartitioner(num_partitions=1)
    partitioner.mesh = make_mesh([FakeDevice(index, index // 3) for index in range(6)], 2)
    with pytest.raises(SettingError, match="its own equal part of the data axis"):
        partitioner.get_data_layout(6, host_index=0)


def test_batches_are_split_over_the_data_axis():
    partitioner = PjitPartitioner(num_partitions=2)
    batch = partitioner.global_batch({"tokens": np.arange(24).reshape(8, 3)})
    assert {piece.data.shape for piece in batch["tokens"].addressable_shards} == {(2, 3)}
    np.testing.assert_array_equal(batch["tokens"], np.arange(24).reshape(8, 3))
    assert partitioner.global_batch(batch)["tokens"] is batch["tokens"]


def test_host_parameters_are_moved_only_if_configured():
    partitioner = PjitPartitioner(num_partitions=2, params_on_devices=False)
    params = {"p": np.ones((2, 2))}
    assert partitioner.move_params_to_devices(params, {"p": PartitionSpec("data")}) is params
