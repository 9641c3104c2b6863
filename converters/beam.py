"""The shards of a conversion as an Apache Beam pipeline: the same jobs, on whatever cluster Beam runs.

Every worker must see the store's folder (and local rows and videos) under the same path, and have this package
installed. The machine that starts the pipeline plans the split before and commits it after.
"""

import logging
from collections.abc import Iterator, Sequence

from converters.jobs import Conversion, ShardJob, ShardResult, ShardWorker, run_shard
from grain_molmo.errors import ConfigError, StoreError
from grain_molmo.store import SplitWriter

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineState
except ImportError as error:  # an extra
    raise ConfigError("--runner needs Apache Beam: pip install 'grain-molmo[beam]'") from error

log = logging.getLogger(__name__)


class _WriteShard(beam.DoFn):
    """A job to the number of its rows that were rejected."""

    def __init__(self, conversion: Conversion):
        self._conversion = conversion
        self._worker: ShardWorker | None = None

    def process(self, element: ShardJob) -> Iterator[int]:
        """Writes the shard, unless it is there: Beam may give a job again, to another machine too."""
        # Opened with the first job rather than in `setup`: not every instance that Beam makes gets one.
        if self._worker is None:
            self._worker = ShardWorker(self._conversion)
        yield run_shard(element, self._worker).rejected

    def teardown(self) -> None:
        """Lets go of threads and connections."""
        if self._worker is not None:
            self._worker.__exit__(None, None, None)


def run_on_beam(
    conversion: Conversion, writer: SplitWriter, jobs: Sequence[ShardJob], flags: Sequence[str]
) -> Iterator[ShardResult]:
    """Results of the jobs, after all of them are done.

    Args:
        conversion: that the jobs belong to.
        writer: that began their split.
        jobs: the shards of the split.
        flags: Beam's own options, such as `--runner=DirectRunner`.

    Raises:
        StoreError: the pipeline failed; the shards that it finished are kept.
    """
    todo = [job for job in jobs if not writer.has_shard(job.shard)]
    log.info("Beam: %d of %d shards to write", len(todo), len(jobs))
    pipeline = beam.Pipeline(options=PipelineOptions(list(flags)))
    shards = pipeline | "Shards" >> beam.Create(todo)
    _ = shards | "Spread" >> beam.Reshuffle() | "Write" >> beam.ParDo(_WriteShard(conversion))
    try:
        state = pipeline.run().wait_until_finish()
    except RuntimeError as error:  # of a worker, as text
        raise StoreError(f"the Beam pipeline failed; the same command goes on where it was: {error}") from error
    if state not in (None, PipelineState.DONE):
        raise StoreError(f"the Beam pipeline ended as {state}; the same command goes on where it was")
    for job in jobs:
        yield ShardResult(job.shard, job.num_rows, len(writer.shard_rejects(job.shard)))
