"""The blueprint: `render.yaml`, read offline into the configurations of apps."""
