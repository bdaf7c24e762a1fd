"""How does the policy change? Advantages, planning, the update and its checks."""
