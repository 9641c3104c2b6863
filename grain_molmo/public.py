"""The public names of `grain_molmo`; users get them from there, at the first use of any of them."""

from grain_molmo.batches import EvalLoader, Loader
from grain_molmo.curriculum import Curriculum
from grain_molmo.datasets.base import Dataset, DatasetBase, StoreDataset
from grain_molmo.datasets.evaluation import DenseCaptionEval, EachMessage
from grain_molmo.datasets.features import FeatureDataset
from grain_molmo.datasets.hf import HfDataset
from grain_molmo.datasets.json_lines import DatasetUtility, load_shuffle_split_dataset
from grain_molmo.datasets.molmo2 import Molmo2MultiImagePoint, Molmo2MultiImageQa, Molmo2SynMultiImageQa
from grain_molmo.datasets.molmo2_video import (
    Molmo2AskModelAnything,
    Molmo2Cap,
    Molmo2VideoCapQa,
    Molmo2VideoPoint,
    Molmo2VideoSubtitleQa,
    Molmo2VideoTrack,
)
from grain_molmo.datasets.pixmo import (
    PixMoAskModelAnything,
    PixMoCap,
    PixMoCapQa,
    PixMoClocks,
    PixMoCount,
    PixMoDocs,
    PixMoPoints,
    PixMoPointsEval,
)
from grain_molmo.datasets.prompts import MathCodePrompts
from grain_molmo.datasets.registry import dataset_names, get_dataset, register_dataset
from grain_molmo.datasets.spatial import SpatialRelations
from grain_molmo.datasets.written import WriteSummary, WrittenDataset, write_dataset
from grain_molmo.errors import ExampleError, FaultBudgetError
from grain_molmo.faults import FaultPolicy
from grain_molmo.loader import make_eval_loader, make_loader
from grain_molmo.quarantine import read_quarantine
from grain_molmo.sequence_sample import SequenceSample, prompt_sample
from grain_molmo.stages import DatasetRule, Group, Phase, Stage
from grain_molmo.tensors import load_tensors
from grain_molmo.text.parse import read_count, read_points, read_tracks
from grain_molmo.text.tokenizer import Tokenizer, load_tokenizer
from grain_molmo.text.weights import LossWeighting
from grain_molmo.vision.chosen import Frames

__all__ = [
    "Curriculum",
    "Dataset",
    "DatasetBase",
    "DatasetRule",
    "DatasetUtility",
    "DenseCaptionEval",
    "EachMessage",
    "EvalLoader",
    "ExampleError",
    "FaultBudgetError",
    "FaultPolicy",
    "FeatureDataset",
    "Frames",
    "Group",
    "HfDataset",
    "Loader",
    "LossWeighting",
    "MathCodePrompts",
    "Molmo2AskModelAnything",
    "Molmo2Cap",
    "Molmo2MultiImagePoint",
    "Molmo2MultiImageQa",
    "Molmo2SynMultiImageQa",
    "Molmo2VideoCapQa",
    "Molmo2VideoPoint",
    "Molmo2VideoSubtitleQa",
    "Molmo2VideoTrack",
    "Phase",
    "PixMoAskModelAnything",
    "PixMoCap",
    "PixMoCapQa",
    "PixMoClocks",
    "PixMoCount",
    "PixMoDocs",
    "PixMoPoints",
    "PixMoPointsEval",
    "SequenceSample",
    "SpatialRelations",
    "Stage",
    "StoreDataset",
    "Tokenizer",
    "WriteSummary",
    "WrittenDataset",
    "dataset_names",
    "get_dataset",
    "load_shuffle_split_dataset",
    "load_tensors",
    "load_tokenizer",
    "make_eval_loader",
    "make_loader",
    "prompt_sample",
    "read_count",
    "read_points",
    "read_quarantine",
    "read_tracks",
    "register_dataset",
    "write_dataset",
]
