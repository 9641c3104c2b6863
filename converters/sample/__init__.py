"""Sample data of our own generator, laid out as the hub and the published downloader lay out the real ones."""

from converters.sample.write import MOLMO2_NAMES, PIXMO_NAMES, SAMPLE_NAMES, BadRow, SampleSet, write_sample

__all__ = ["MOLMO2_NAMES", "PIXMO_NAMES", "SAMPLE_NAMES", "BadRow", "SampleSet", "write_sample"]
