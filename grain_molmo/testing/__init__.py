"""What the tests of a dataset of one's own need: `check_dataset(MyDataset())`."""

from grain_molmo.testing.check import check_dataset
from grain_molmo.testing.findings import CheckReport, DatasetCheckError, Finding

__all__ = ["CheckReport", "DatasetCheckError", "Finding", "check_dataset"]
