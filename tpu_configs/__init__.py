"""TPU pods, a file each: how many threads load data, and how each stage is laid out on the devices.

What a trainer does with one:

    pod = tpu_configs.pod("v5e-16")
    loader = make_loader(**pod.loader_args("sft"), data_dir=..., tokenizer=...)

`grain_molmo.pods.StageRun` says what the numbers mean. They are for a model of the size of Molmo2-4B. After a change
`grain-molmo size v5e-16` says what is asked of devices and hosts, and whether it fits.
"""

import importlib
import pkgutil

from grain_molmo.errors import ConfigError
from grain_molmo.pods import Pod
from grain_molmo.tools.hints import did_you_mean, nearest


def names() -> list[str]:
    """The pods that there are files of, small ones first."""
    found = (module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))
    return sorted(found, key=lambda name: (name.partition("-")[0], int(name.partition("-")[2])))


def pod(name: str) -> Pod:
    """The pod of that name, as the cloud writes it, "v5e-16", or with '_'. Raises ConfigError if there is none."""
    name = name.replace("_", "-")
    if name not in names():
        problem = ConfigError(f"pod {name!r}: tpu_configs has {', '.join(names())}")
        near = nearest(name, names())
        raise problem.with_hint(did_you_mean(near).strip()) if near else problem
    return importlib.import_module(f"tpu_configs.{name.replace('-', '_')}").POD
