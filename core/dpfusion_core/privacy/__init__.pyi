from .accounting import (
    Accountant as Accountant,
    FixedAccountant as FixedAccountant,
    response_loss as response_loss,
)
from .adaptive import (
    AdaptiveAccountant as AdaptiveAccountant,
)
from .budget import (
    PrivacyBudget as PrivacyBudget,
    RenyiLoss as RenyiLoss,
    smallest_epsilon as smallest_epsilon,
)
from .calibration import (
    calibrate_beta as calibrate_beta,
)
from .conversion import (
    ApproximateDP as ApproximateDP,
    best_epsilon as best_epsilon,
    rdp_to_epsilon as rdp_to_epsilon,
)
from .divergence import (
    renyi_divergence as renyi_divergence,
    symmetric_divergence as symmetric_divergence,
)
from .fusion import (
    Diagnostics as Diagnostics,
    Fused as Fused,
    FusionRule as FusionRule,
    MixtureRule as MixtureRule,
)
from .guarantee import (
    PrivacyGuarantee as PrivacyGuarantee,
)
from .loss import (
    token_bound as token_bound,
    token_loss as token_loss,
)
from .measures import (
    Limits as Limits,
    NumberRelease as NumberRelease,
    QuantileRelease as QuantileRelease,
)
from .measuring import (
    Measured as Measured,
    release_measure as release_measure,
)
from .mixing import (
    MixingWeightSearch as MixingWeightSearch,
    largest_mixing_weight as largest_mixing_weight,
)
from .parameters import (
    Accounting as Accounting,
    Neighbours as Neighbours,
    PrivacyParameters as PrivacyParameters,
    Spending as Spending,
)
from .published import (
    compute_dp_epsilon as compute_dp_epsilon,
    compute_epsilon_single_group as compute_epsilon_single_group,
)
from .release import (
    CountRelease as CountRelease,
    VoteRelease as VoteRelease,
    check_reach as check_reach,
)
from .release_calibration import (
    calibrate_counts as calibrate_counts,
    calibrate_measure as calibrate_measure,
    calibrate_votes as calibrate_votes,
)
from .releasing import (
    Counted as Counted,
    Released as Released,
    release_counts as release_counts,
    release_votes as release_votes,
)
from .spending import (
    SPENDING_RULES as SPENDING_RULES,
)
