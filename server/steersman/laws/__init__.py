"""Laws that every search, sampler and reward keeps: run them in the tests of a plugin of yours."""

from steersman.laws.policy import assert_policy_laws
from steersman.laws.reward import assert_reward_laws
from steersman.laws.sampler import assert_sampler_laws
from steersman.laws.toy import ToySource

__all__ = ["ToySource", "assert_policy_laws", "assert_reward_laws", "assert_sampler_laws"]
