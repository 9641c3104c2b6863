"""The loader's numbers for Prometheus, by way of `prometheus-client` (the extra `metrics`).

Grain exports metrics of its own through the same library, but only those on a fixed list. So these are registered
beside them, and whatever serves the registry serves both: `PrometheusMetrics(port=...)`, or Grain's own server
(ENABLE_PYGRAIN_PROMETHEUS_TELEMETRY=true, with an empty folder as PROMETHEUS_MULTIPROC_DIR).
"""

from collections.abc import Mapping
from typing import Any

from grain_molmo.errors import ConfigError

try:
    import prometheus_client
except ImportError as error:
    raise ImportError("grain_molmo.metrics needs prometheus-client: pip install 'grain-molmo[metrics]'") from error

_PREFIX = "grain_molmo_"
_BATCHES = "data/batches"
_LEVELS = ("token_fill", "crop_fill", "wait_share", "limited_by", "step")
"""What can fall; all else adds up from the loader's first batch."""

_LABELS = {
    "datasets": "dataset",
    "skipped_examples": "reason",
    "skipped_media": "reason",
    "frames": "source",
    "limited_by": "stage",
}
"""What the second part of a name says, by the first."""


class PrometheusMetrics:
    """A hook for `make_loader(metrics=...)` that exports what it is given.

    Sums become counters, the rest gauges: `data/tokens` is `grain_molmo_tokens_total`, `data/wait_s` is
    `grain_molmo_wait_seconds_total`, `data/datasets/NAME/tokens` is `grain_molmo_dataset_tokens_total{dataset="NAME"}`,
    `data/limited_by/planning` is `grain_molmo_limited_by{stage="planning"}`, 1 or 0. One serves any number of loaders
    one after the other.

    Args:
        port: serve them over HTTP at this port, 0 for any that is free; None: they are served by whoever serves the
            registry.
        address: to listen at.
        registry: where they are registered, once; default the process's, where Grain's are.

    Attributes:
        port: that they are served at, or None.

    Raises:
        ConfigError: the port is taken, or the registry has these metrics already.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        address: str = "127.0.0.1",
        registry: prometheus_client.CollectorRegistry = prometheus_client.REGISTRY,
    ):
        self._registry = registry
        self._metrics: dict[str, Any] = {}
        self._children: dict[str, Any] = {}
        self._last: dict[str, float] = {}
        self._server: Any = None
        self._metric("step", ())  # at once, so that a registry that has them is found out now
        self.port: int | None = None
        if port is not None:
            try:
                self._server, self._thread = prometheus_client.start_http_server(port, address, registry)
            except (OSError, OverflowError) as error:  # the latter of a port above 65,535
                self._unregister()
                raise ConfigError(f"metrics cannot be served at {address}:{port} ({error}); choose another") from error
            self.port = self._server.server_port

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Takes over the values of a step, by names as `flat_metrics` gives them."""
        if values.get(_BATCHES, 0.0) <= self._last.get(_BATCHES, -1.0):
            self._last.clear()  # another loader, which began at 0
        for name, value in {"step": float(step), **values}.items():
            last = self._last.get(name)
            if value == last:
                continue
            child = self._children.get(name) or self._child(name)
            if isinstance(child, prometheus_client.Gauge):
                child.set(value)
            else:
                child.inc(value - (last or 0.0))
            self._last[name] = value

    def close(self) -> None:
        """Stops serving, and takes the metrics out of the registry."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
        self._unregister()

    def _child(self, name: str) -> Any:
        """The metric that a flat name belongs to, by its label if it has one."""
        family, _, rest = name.removeprefix("data/").partition("/")  # a reason may be of any letters
        if not rest or family not in _LABELS:
            child = self._metric(f"{family}_{rest}" if rest else family, ())
        elif family == "datasets":
            dataset, _, what = rest.rpartition("/")
            child = self._metric(f"{_LABELS[family]}_{what}", (_LABELS[family],)).labels(dataset)
        else:
            child = self._metric(family, (_LABELS[family],)).labels(rest)
        self._children[name] = child
        return child

    def _metric(self, name: str, labels: tuple[str, ...]) -> Any:
        if name not in self._metrics:
            text = f"{name} of grain_molmo's Loader.stats()"
            full_name = _PREFIX + (f"{name.removesuffix('_s')}_seconds" if name.endswith("_s") else name)
            try:
                if name in _LEVELS:
                    # Of several processes' files that are served together, a level is that of the newest.
                    made: Any = prometheus_client.Gauge(
                        full_name, text, labels, registry=self._registry, multiprocess_mode="mostrecent"
                    )
                else:
                    made = prometheus_client.Counter(full_name, text, labels, registry=self._registry)
            except ValueError as error:
                raise ConfigError(f"{error}; use one PrometheusMetrics, or give each its own registry") from error
            self._metrics[name] = made
        return self._metrics[name]

    def _unregister(self) -> None:
        for metric in self._metrics.values():
            self._registry.unregister(metric)
        self._metrics.clear()
        self._children.clear()
        self._last.clear()
