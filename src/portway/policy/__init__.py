"""Which tools, resources and prompts are open to whom: rules by name, annotation and URI, compiled for look-up."""
