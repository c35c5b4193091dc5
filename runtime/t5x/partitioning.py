"""How arrays are distributed over devices: a mesh ('data', 'model') and rules from logical axis names to mesh axes.

Built on :class:`jax.sharding.Mesh` and ``jax.jit``. A parameter dimension named ``mlp`` is split over the mesh's
``model`` axis because the rules say ``("mlp", "model")``; the compiler inserts the communication.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.linen import partitioning as flax_partitioning
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fsa_base.errors import SettingError, require_choice

LogicalAxisRules = Sequence[tuple[str, str | None]]
HardwareMesh = tuple[int, ...]
Device = Any  # jax.Device, which has other attributes on every platform.

MESH_AXES = ("data", "model")


def standard_logical_axis_rules(
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: LogicalAxisRules | None = None,
) -> LogicalAxisRules:
    """Returns the rules from logical axis names to mesh axes; earlier rules take precedence.

    Args:
      activation_partitioning_dims: 1, or 2 to also split the ``embed`` dimension of activations over ``model``.
      parameter_partitioning_dims: 1, or 2 to also split the ``embed`` dimension of parameters over ``data`` (ZeRO-3).
      additional_rules: Rules that are appended.

    Raises:
      SettingError: A number of dimensions is neither 1 nor 2.
    """
    for name, dims in (
        ("activation_partitioning_dims", activation_partitioning_dims),
        ("parameter_partitioning_dims", parameter_partitioning_dims),
    ):
        if dims not in (1, 2):
            raise SettingError(
                f"standard_logical_axis_rules.{name}",
                expected="1 or 2",
                found=repr(dims),
                fix=f"--gin.partitioning.standard_logical_axis_rules.{name}=1",
            )
    rules: list[tuple[str, str | None]] = [
        ("batch", "data"),
        ("vocab", "model"),
        ("mlp", "model"),
        ("heads", "model"),
        ("joined_kv", "model"),
    ]
    if activation_partitioning_dims == 2:
        rules.append(("embed", "model"))
    if parameter_partitioning_dims == 2:
        rules.append(("embed", "data"))
    replicated = ("embed", "kv", "relpos_buckets", "abspos_buckets", "length", "layers", "stack", "mlp_activations")
    rules.extend((name, None) for name in replicated)
    rules.extend(additional_rules or ())
    return tuple(rules)


@dataclasses.dataclass(frozen=True)
class DataLayout:
    """The part of every global batch that this process loads.

    Attributes:
      batch_size: Number of rows in a global batch.
      shard_id: Index of this process's part, 0 to ``num_shards`` - 1.
      num_shards: Number of different parts of a batch.
      is_first_host_in_replica_set: Whether no process with a lower index loads the same part.
    """

    batch_size: int
    shard_id: int
    num_shards: int
    is_first_host_in_replica_set: bool


class PartitionedFunction:
    """A function that is compiled for a mesh when it is called, or before that by ``lower(*shapes).compile()``."""

    def __init__(self, jitted: Any, context: Callable[[], contextlib.AbstractContextManager]) -> None:
        self._jitted = jitted
        self._context = context

    def __call__(self, *args: Any) -> Any:
        with self._context():
            return self._jitted(*args)

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """Traces the function for arguments of these shapes (arrays or ``jax.ShapeDtypeStruct``)."""
        with self._context():
            return self._jitted.lower(*args)


class PjitPartitioner:
    """Distributes state and batches over a mesh of devices, and compiles functions for it.

    Args:
      num_partitions: Size of the ``model`` axis of the mesh; the other devices form the ``data`` axis.
      model_parallel_submesh: TPU devices (x, y, z, cores) that form one model-parallel group, instead of
        ``num_partitions``. On other hardware only the product is used.
      params_on_devices: Whether :meth:`move_params_to_devices` has an effect.
      backend: Platform of the devices. If None, JAX's default.
      ici_mesh_shape: (data, model) within a slice (the fast interconnect), instead of the two settings above.
      dcn_mesh_shape: (data, model) across slices. The mesh is the product of both shapes.
      logical_axis_rules: Rules from logical axis names to mesh axes. If None, :func:`standard_logical_axis_rules`.

    Raises:
      SettingError: The devices cannot form this mesh.
    """

    def __init__(
        self,
        num_partitions: int | None = None,
        model_parallel_submesh: HardwareMesh | None = None,
        params_on_devices: bool = True,
        backend: str | None = None,
        ici_mesh_shape: HardwareMesh | None = None,
        dcn_mesh_shape: HardwareMesh | None = None,
        logical_axis_rules: LogicalAxisRules | None = None,
    ) -> None:
        devices = _devices(backend)
        self.mesh = make_mesh(devices, num_partitions, model_parallel_submesh, ici_mesh_shape, dcn_mesh_shape)
        self.params_on_devices = params_on_devices
        self.logical_axis_rules = tuple(logical_axis_rules or standard_logical_axis_rules())
        for name, axes in self.logical_axis_rules:
            for axis in (axes,) if axes is None or isinstance(axes, str) else axes:
                if axis is not None:
                    fix = f"({name!r}, {{choice!r}}), or ({name!r}, None)"
                    require_choice("PjitPartitioner.logical_axis_rules", axis, MESH_AXES, fix)
        self.data_partition_spec = PartitionSpec("data")

    def get_data_layout(self, batch_size: int | None = None, host_index: int | None = None) -> DataLayout:
        """Returns which part of a batch the process ``host_index`` (if None, this process) loads.

        Raises:
          SettingError: The batch cannot be split evenly over the mesh, or processes share parts of it unevenly.
        """
        data_size = int(self.mesh.shape["data"])
        batch_size = int(data_size) if batch_size is None else batch_size
        if batch_size % data_size:
            raise SettingError(
                "BATCH_SIZE",
                expected=f"a multiple of {data_size}, the size of the mesh's data axis",
                found=str(batch_size),
                fix=f"--gin.BATCH_SIZE={math.ceil(batch_size / data_size) * data_size}, or raise num_partitions",
            )
        process = jax.process_index() if host_index is None else host_index
        rows: dict[int, set[int]] = {}
        for row, devices in enumerate(self.mesh.devices):
            for device in devices:
                rows.setdefault(device.process_index, set()).add(row)
        parts = sorted({tuple(sorted(part)) for part in rows.values()})
        if sum(map(len, parts)) != data_size or len(set(map(len, parts))) != 1:
            raise SettingError(
                "PjitPartitioner",
                expected="a mesh in which every process has its own equal part of the data axis, or shares one",
                found=f"parts of the data axis by process: {rows}",
                fix="set num_partitions to a divisor or a multiple of the devices of one process",
            )
        own = tuple(sorted(rows[process]))
        first = min(other for other, part in rows.items() if tuple(sorted(part)) == own)
        return DataLayout(batch_size, parts.index(own), len(parts), first == process)

    def global_batch(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Joins the parts of a batch that the processes loaded to arrays that are split over the mesh's data axis.

        Args:
          batch: The part of this process: arrays (batch_size / num_shards, …).

        Returns:
          Arrays (batch_size, …). Arrays that are already global are returned unchanged.
        """
        return {name: self._to_global(value) for name, value in batch.items()}

    def _to_global(self, value: Any) -> jax.Array:
        sharding = NamedSharding(self.mesh, self.data_partition_spec)
        if isinstance(value, jax.Array) and value.sharding == sharding:
            return value
        return jax.make_array_from_process_local_data(sharding, np.asarray(value))

    def get_logical_axes(self, train_state: Any) -> Any:
        """Returns the state with a PartitionSpec of logical axis names in place of every array."""
        return train_state.as_logical_axes()

    def get_mesh_axes(self, train_state: Any) -> Any:
        """Returns the state (of arrays or shapes) with a PartitionSpec of mesh axes in place of every array.

        Raises:
          SettingError: The size of a dimension is not a multiple of its mesh axis.
        """

        def mesh_axes(path: tuple[Any, ...], logical: PartitionSpec, leaf: Any) -> PartitionSpec:
            spec = flax_partitioning.logical_to_mesh_axes(tuple(logical), self.logical_axis_rules)
            assert spec is not None
            for dimension, (name, size, axis) in enumerate(zip(logical, np.shape(leaf), spec, strict=False)):
                if axis is not None and size % self.mesh.shape[axis]:
                    where = jax.tree_util.keystr(path, simple=True, separator="/")
                    raise SettingError(
                        f"PjitPartitioner, parameter {where}",
                        expected=f"dimension {dimension} ({name}) to be a multiple of {self.mesh.shape[axis]}, "
                        f"the size of the mesh's {axis} axis",
                        found=str(size),
                        fix=f"pad that dimension, change num_partitions, or add the rule ({name!r}, None)",
                    )
            return spec

        return jax.tree_util.tree_map_with_path(
            mesh_axes, self.get_logical_axes(train_state), train_state, is_leaf=_is_spec
        )

    def shardings(self, mesh_axes: Any) -> Any:
        """Converts a tree of PartitionSpecs to NamedShardings; None means replicated."""
        return jax.tree.map(
            lambda spec: NamedSharding(self.mesh, PartitionSpec() if spec is None else spec),
            mesh_axes,
            is_leaf=lambda leaf: leaf is None or _is_spec(leaf),
        )

    def partition(
        self,
        fn: Callable,
        in_axis_resources: Any,
        out_axis_resources: Any,
        static_argnums: int | Sequence[int] = (),
        donate_argnums: int | Sequence[int] = (),
    ) -> PartitionedFunction:
        """Compiles ``fn`` for the mesh.

        Args:
          fn: Function of positional arguments. Logical constraints inside it follow the axis rules.
          in_axis_resources: PartitionSpecs, a tree prefix of the non-static arguments; None means replicated.
          out_axis_resources: The same for the return value.
          static_argnums: Arguments that are constants of the compiled function.
          donate_argnums: Arguments whose memory may be reused.
        """
        jitted = jax.jit(
            fn,
            in_shardings=self.shardings(in_axis_resources),
            out_shardings=self.shardings(out_axis_resources),
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
        )
        return PartitionedFunction(jitted, self._context)

    def compile(self, partitioned_fn: PartitionedFunction, *args: Any) -> jax.stages.Compiled:
        """Compiles ahead of time for arguments of these shapes (arrays or ``jax.ShapeDtypeStruct``)."""
        return partitioned_fn.lower(*args).compile()

    def move_params_to_devices(self, train_state: Any, train_state_axes: Any) -> Any:
        """Moves a state of host arrays to the devices of the mesh, unless ``params_on_devices`` is False."""
        if not self.params_on_devices:
            return train_state
        return jax.device_put(train_state, self.shardings(train_state_axes))

    @contextlib.contextmanager
    def _context(self) -> Iterator[None]:
        with jax.set_mesh(self.mesh), flax_partitioning.axis_rules(self.logical_axis_rules):
            yield


def _devices(backend: str | None) -> Sequence[Device]:
    try:
        return jax.devices(backend)
    except RuntimeError as error:
        if backend is None:
            raise
        raise SettingError(
            "PjitPartitioner.backend",
            expected=f"None, or a platform that JAX has here, such as {jax.default_backend()!r}",
            found=repr(backend),
            fix="--gin.partitioning.PjitPartitioner.backend=None",
        ) from error


def make_mesh(
    devices: Sequence[Device],
    num_partitions: int | None = None,
    model_parallel_submesh: HardwareMesh | None = None,
    ici_mesh_shape: HardwareMesh | None = None,
    dcn_mesh_shape: HardwareMesh | None = None,
) -> Mesh:
    """Returns the mesh of ('data', 'model'); see :class:`PjitPartitioner` for the arguments and errors."""
    given = [
        name
        for name, value in (
            ("num_partitions", num_partitions),
            ("model_parallel_submesh", model_parallel_submesh),
            ("ici_mesh_shape", ici_mesh_shape),
        )
        if value is not None
    ]
    if len(given) > 1 or (dcn_mesh_shape is not None and ici_mesh_shape is None):
        raise SettingError(
            "PjitPartitioner",
            expected="one of num_partitions, model_parallel_submesh and ici_mesh_shape (dcn_mesh_shape only with it)",
            found=", ".join(given + ["dcn_mesh_shape"] * (dcn_mesh_shape is not None)),
            fix="bind the others to None",
        )
    if ici_mesh_shape is not None:
        return Mesh(_hybrid_devices(devices, ici_mesh_shape, dcn_mesh_shape or (1,) * len(MESH_AXES)), MESH_AXES)
    model_size = math.prod(model_parallel_submesh) if model_parallel_submesh else num_partitions or 1
    if model_size < 1 or len(devices) % model_size:
        raise SettingError(
            f"PjitPartitioner.{given[0]}",
            expected=f"a divisor of {len(devices)}, the number of devices",
            found=repr(model_parallel_submesh or num_partitions),
            fix="--gin.partitioning.PjitPartitioner.num_partitions=1",
        )
    shape = (len(devices) // model_size, model_size)
    if model_parallel_submesh and devices[0].platform == "tpu":
        return Mesh(_in_submeshes(devices, model_parallel_submesh).reshape(shape), MESH_AXES)
    if devices[0].platform == "tpu":
        return Mesh(mesh_utils.create_device_mesh(shape, devices), MESH_AXES)
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered).reshape(shape), MESH_AXES)


def _hybrid_devices(devices: Sequence[Device], ici: HardwareMesh, dcn: HardwareMesh) -> np.ndarray:
    slices = {_slice_of(device) for device in devices}
    right_rank = len(ici) == len(dcn) == len(MESH_AXES)
    if not right_rank or math.prod(ici) * math.prod(dcn) != len(devices) or math.prod(dcn) != len(slices):
        raise SettingError(
            "PjitPartitioner.ici_mesh_shape and dcn_mesh_shape",
            expected=f"two sizes each, (data, model), whose product is {len(devices)} devices, "
            f"dcn's being {len(slices)} (TPU slices, or processes on other hardware)",
            found=f"ici {tuple(ici)}, dcn {tuple(dcn)}",
            fix=f"ici_mesh_shape = ({len(devices) // len(slices)}, 1) and dcn_mesh_shape = ({len(slices)}, 1)",
        )
    if len(slices) == 1:
        return mesh_utils.create_device_mesh(tuple(ici), devices)
    by_process = not hasattr(devices[0], "slice_index")
    return mesh_utils.create_hybrid_device_mesh(tuple(ici), tuple(dcn), devices, process_is_granule=by_process)


def _slice_of(device: Device) -> int:
    return getattr(device, "slice_index", device.process_index)


def _in_submeshes(devices: Sequence[Device], submesh: HardwareMesh) -> np.ndarray:
    """Orders TPU devices so that each ``prod(submesh)`` consecutive ones are neighbours in the shape of ``submesh``."""

    def place(device: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        position = (*device.coords, device.core_on_chip)
        return (
            tuple(at // size for at, size in zip(position, submesh, strict=True)),
            tuple(at % size for at, size in zip(position, submesh, strict=True)),
        )

    return np.array(sorted(devices, key=place))


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, PartitionSpec)
