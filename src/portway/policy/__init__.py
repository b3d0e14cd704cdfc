"""Which tools, resources and prompts are open to whom, and the limits and confirmations of tools, by compiled rules."""
