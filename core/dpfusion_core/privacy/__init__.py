"""The privacy core: divergences, fusion of one token, losses, accounting and conversion.

Pure mathematics on log-probabilities; knows nothing of models, text or files.
"""

from dpfusion_core.privacy.accounting import Accountant, FixedAccountant, PrivacyGuarantee, response_loss
from dpfusion_core.privacy.adaptive import AdaptiveAccountant
from dpfusion_core.privacy.budget import PrivacyBudget, RenyiLoss, smallest_epsilon
from dpfusion_core.privacy.calibration import calibrate_beta
from dpfusion_core.privacy.conversion import ApproximateDP, best_epsilon, rdp_to_epsilon
from dpfusion_core.privacy.divergence import renyi_divergence, symmetric_divergence
from dpfusion_core.privacy.fusion import Diagnostics, Fused, FusionRule, MixtureRule
from dpfusion_core.privacy.loss import token_bound, token_loss
from dpfusion_core.privacy.mixing import MixingWeightSearch, largest_mixing_weight
from dpfusion_core.privacy.parameters import Accounting, Neighbours, PrivacyParameters
from dpfusion_core.privacy.published import compute_dp_epsilon, compute_epsilon_single_group
from dpfusion_core.privacy.spending import SPENDING_RULES, Spending

__all__ = [
    "SPENDING_RULES",
    "Accountant",
    "Accounting",
    "AdaptiveAccountant",
    "ApproximateDP",
    "Diagnostics",
    "FixedAccountant",
    "Fused",
    "FusionRule",
    "MixingWeightSearch",
    "MixtureRule",
    "Neighbours",
    "PrivacyBudget",
    "PrivacyGuarantee",
    "PrivacyParameters",
    "RenyiLoss",
    "Spending",
    "best_epsilon",
    "calibrate_beta",
    "compute_dp_epsilon",
    "compute_epsilon_single_group",
    "largest_mixing_weight",
    "rdp_to_epsilon",
    "renyi_divergence",
    "response_loss",
    "smallest_epsilon",
    "symmetric_divergence",
    "token_bound",
    "token_loss",
]
