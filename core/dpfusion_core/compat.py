"""The names of the published library, dp-fusion-lib, with its calls.

    from dpfusion_core.compat import DPFusion, Tagger, compute_dp_epsilon

``Tagger`` here is the published one: the client of the Document Privacy service, **which gets every text
that is tagged**. Everywhere else in this package a ``Tagger`` is anything that finds private phrases, and
the service's client is called :class:`~dpfusion_core.DocumentPrivacyTagger`.
"""

from dpfusion_core.dpfusion import DPFusion, generate_dp_text
from dpfusion_core.privacy import compute_dp_epsilon, compute_epsilon_single_group
from dpfusion_core.tagging import DocumentPrivacyTagger as Tagger

__all__ = ["DPFusion", "Tagger", "compute_dp_epsilon", "compute_epsilon_single_group", "generate_dp_text"]
