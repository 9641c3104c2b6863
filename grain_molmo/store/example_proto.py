"""`tf.train.Example` without TensorFlow: the record payload that TFDS, Beam and other JAX trainers read.

The message class is built in a descriptor pool of its own, so it coexists with TensorFlow's and TFDS's copies of the
same proto in one process.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto


def _add_message(parent: Any, name: str, *fields: tuple[str, int, int, str | None, bool]) -> Any:
    message = parent.add(name=name)
    for field_name, number, kind, type_name, repeated in fields:
        message.field.add(
            name=field_name,
            number=number,
            type=kind,  # pyright: ignore[reportArgumentType]
            type_name=type_name,
            label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL,
        )
    return message


def _build_example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="grain_molmo/example.proto", package="tensorflow", syntax="proto3")
    messages = file.message_type
    _add_message(messages, "BytesList", ("value", 1, _FIELD.TYPE_BYTES, None, True))
    _add_message(messages, "FloatList", ("value", 1, _FIELD.TYPE_FLOAT, None, True))
    _add_message(messages, "Int64List", ("value", 1, _FIELD.TYPE_INT64, None, True))
    feature = _add_message(
        messages,
        "Feature",
        ("bytes_list", 1, _FIELD.TYPE_MESSAGE, ".tensorflow.BytesList", False),
        ("float_list", 2, _FIELD.TYPE_MESSAGE, ".tensorflow.FloatList", False),
        ("int64_list", 3, _FIELD.TYPE_MESSAGE, ".tensorflow.Int64List", False),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = _add_message(
        messages, "Features", ("feature", 1, _FIELD.TYPE_MESSAGE, ".tensorflow.Features.FeatureEntry", True)
    )
    entry = _add_message(
        features.nested_type,
        "FeatureEntry",
        ("key", 1, _FIELD.TYPE_STRING, None, False),
        ("value", 2, _FIELD.TYPE_MESSAGE, ".tensorflow.Feature", False),
    )
    entry.options.map_entry = True
    _add_message(messages, "Example", ("features", 1, _FIELD.TYPE_MESSAGE, ".tensorflow.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # pyright: ignore[reportAttributeAccessIssue]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _build_example_class()


def encode_example(
    *,
    bytes_lists: Mapping[str, Sequence[bytes]] | None = None,
    int64_lists: Mapping[str, Sequence[int]] | None = None,
    float_lists: Mapping[str, Sequence[float]] | None = None,
) -> bytes:
    """Serialised `tf.train.Example`; the same features give the same bytes. An empty list keeps its type."""
    example = _Example()
    feature = example.features.feature
    for name, values in (bytes_lists or {}).items():
        feature[name].bytes_list.SetInParent()
        feature[name].bytes_list.value.extend(values)
    for name, values in (int64_lists or {}).items():
        feature[name].int64_list.SetInParent()
        feature[name].int64_list.value.extend(values)
    for name, values in (float_lists or {}).items():
        feature[name].float_list.SetInParent()
        feature[name].float_list.value.extend(values)
    return example.SerializeToString(deterministic=True)


def decode_example(payload: bytes) -> dict[str, list[Any]]:
    """Lists of values by feature name. Raises ValueError if the payload is no `tf.train.Example`."""
    example = _Example()
    try:
        example.ParseFromString(payload)
    except Exception as error:  # protobuf's DecodeError is not a public name in every backend
        raise ValueError(f"not a tf.train.Example: {error}") from error
    decoded = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        decoded[name] = list(getattr(feature, kind).value) if kind else []
    return decoded
