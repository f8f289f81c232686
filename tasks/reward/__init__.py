"""A judge as the reward of an RLHF trainer: from comparisons of the responses in a group to one reward for each."""
