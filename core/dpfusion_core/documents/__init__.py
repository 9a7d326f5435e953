"""Whole documents at three levels of privacy: redacted, paraphrased, differentially private."""

from dpfusion_core.documents.chunks import DocumentReport, Level, PrivatizedDocument
from dpfusion_core.documents.levels import Privatizer, aprivatize, privatize

__all__ = ["DocumentReport", "Level", "PrivatizedDocument", "Privatizer", "aprivatize", "privatize"]
