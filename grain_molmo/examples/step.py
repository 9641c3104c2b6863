"""The state of a training run, and the step that changes it: Adam on the weighted loss, for any mesh."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from grain_molmo.examples.model import ModelConfig, Params, init_params, weighted_loss
from grain_molmo.render import Batch

State = dict[str, Any]


def init_state(config: ModelConfig) -> State:
    """Weights and what Adam knows of them."""
    params = init_params(config, jax.random.key(0))
    return {
        "params": params,
        "mean": jax.tree.map(jnp.zeros_like, params),
        "square": jax.tree.map(jnp.zeros_like, params),
        "steps": jnp.zeros((), jnp.int32),
    }


def abstract_state(config: ModelConfig, mesh: jax.sharding.Mesh) -> State:
    """Shapes of the state's parts and where they lie: cut along the first axis that the mesh's axis "fsdp" divides."""
    n = mesh.shape.get("fsdp", 1)

    def placed(array: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        divided = next((axis for axis, size in enumerate(array.shape) if n > 1 and size % n == 0), None)
        spec = () if divided is None else (*[None] * divided, "fsdp")
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(placed, jax.eval_shape(partial(init_state, config)))


def make_train_step(config: ModelConfig, learning_rate: float, abstract: State) -> Callable[[State, Batch], Any]:
    """A jitted function of state and batch to the next state and `loss` and `batch`, see `checksum`.

    The state comes out where it lay, or the second step would compile anew; its old memory is used again.
    """
    placed = jax.tree.map(lambda array: array.sharding, abstract)
    everywhere = jax.sharding.NamedSharding(placed["steps"].mesh, jax.sharding.PartitionSpec())

    def loss_of(params: Params, batch: Batch) -> jax.Array:
        # Weights that are cut along "fsdp" are put together where they are used; their gradients come out cut again.
        return weighted_loss(jax.lax.with_sharding_constraint(params, everywhere), batch, config)

    @partial(jax.jit, donate_argnames=("state",), out_shardings=(placed, None))
    def train_step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        loss, gradient = jax.value_and_grad(loss_of)(state["params"], batch)
        return adam(state, gradient, learning_rate), {"loss": loss, "batch": checksum(batch)}

    return train_step


def adam(state: State, gradient: Any, learning_rate: float) -> State:
    """The next state, by Adam with decays of 0.9 and 0.99."""
    steps = state["steps"] + 1
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["mean"], gradient)
    square = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g * g, state["square"], gradient)
    rate = learning_rate * jnp.sqrt(1 - 0.99**steps) / (1 - 0.9**steps)
    params = jax.tree.map(lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-8), state["params"], mean, square)
    return {"params": params, "mean": mean, "square": square, "steps": steps}


def checksum(batch: Batch) -> jax.Array:
    """uint32 over values and their places: the same however the arrays are sharded, another for another batch."""
    total = jnp.uint32(0)
    for number, key in enumerate(sorted(batch)):
        is_bytes = batch[key].dtype == jnp.uint8
        words = batch[key].astype(jnp.uint32) if is_bytes else jax.lax.bitcast_convert_type(batch[key], jnp.uint32)
        place = jnp.uint32(number)
        for axis, size in enumerate(words.shape):
            place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        total += _mixed(words + _mixed(place)).sum(dtype=jnp.uint32)
    return total


def _mixed(words: jax.Array) -> jax.Array:
    """Every bit of a word stirred into all of them; no two words become one."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x7FEB352D)
    words = (words ^ (words >> 15)) * jnp.uint32(0x846CA68B)
    return words ^ (words >> 16)
