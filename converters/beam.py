"""The shards of a conversion as an Apache Beam pipeline: the same jobs, on whatever cluster Beam runs.

Every worker must see the store's folder (and local rows, videos and the image cache) under the same path, and have this
package installed. The machine that starts the pipeline plans each split before and commits it after.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from converters.jobs import Conversion, ShardJob, ShardResult, ShardWorker, run_shard
from converters.processes import Runner
from grain_molmo.errors import ConfigError, StoreError

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners.runner import PipelineState, create_runner
except ImportError as error:  # an extra
    raise ConfigError("--runner needs Apache Beam: pip install 'grain-molmo[beam]'") from error


class _WriteShard(beam.DoFn):
    """A job to its result."""

    def __init__(self, conversion: Conversion):
        self._conversion = conversion
        self._worker: ShardWorker | None = None

    def process(self, element: ShardJob) -> Iterator[ShardResult]:
        """Writes the shard, unless it is there: Beam may give a job again, to another machine too."""
        # Opened with the first job rather than in `setup`: not every instance that Beam makes gets one.
        if self._worker is None:
            self._worker = ShardWorker(self._conversion)
        yield run_shard(element, self._worker)

    def teardown(self) -> None:
        """Lets go of threads and connections."""
        if self._worker is not None:
            self._worker.__exit__(None, None, None)


def pipeline_options(flags: Sequence[str]) -> PipelineOptions:
    """Beam's own options. Raises ConfigError if one of them has a wrong value, or there is no such runner."""
    options = PipelineOptions(list(flags))
    try:
        options.get_all_options()
        create_runner(options.view_as(StandardOptions).runner)
    except SystemExit as error:  # it has said which option, and what there is
        raise ConfigError(f"Beam does not take {' '.join(flags)}") from error
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigError(f"Beam does not take {' '.join(flags)}: {error}") from error
    return options


@contextlib.contextmanager
def on_beam(conversion: Conversion, flags: Sequence[str]) -> Iterator[Runner]:
    """Does the jobs of a split in a pipeline; their results come when all of them are done.

    Args:
        conversion: that the jobs belong to.
        flags: Beam's own options, such as `--runner=DirectRunner`.

    The runner raises StoreError if the pipeline fails; the shards that it finished are kept. Raises ConfigError for
    flags that are wrong.
    """
    options = pipeline_options(flags)

    def run(jobs: Iterable[ShardJob], on_rows: Callable[[int], object]) -> Iterator[ShardResult]:
        todo = list(jobs)
        pipeline = beam.Pipeline(options=options)
        shards = pipeline | "Shards" >> beam.Create(todo) | "Spread" >> beam.Reshuffle()
        _ = shards | "Write" >> beam.ParDo(_WriteShard(conversion))
        try:
            state = pipeline.run().wait_until_finish()
        except Exception as error:  # of a worker: as it was or as text, which depends on the runner
            raise StoreError(f"the Beam pipeline failed; the same command goes on where it was: {error}") from error
        if state not in (None, PipelineState.DONE):
            raise StoreError(f"the Beam pipeline ended as {state}; the same command goes on where it was")
        with ShardWorker(conversion) as reader:
            for job in todo:
                yield run_shard(job, reader, on_rows)  # it is there, so only its result is read

    yield run
