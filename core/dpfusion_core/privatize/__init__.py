"""Whole documents at three levels of privacy: redacted, paraphrased, differentially private."""

from dpfusion_core.privatize.documents import DocumentReport, Level, PrivatizedDocument
from dpfusion_core.privatize.levels import Privatizer, aprivatize, privatize

__all__ = ["DocumentReport", "Level", "PrivatizedDocument", "Privatizer", "aprivatize", "privatize"]
