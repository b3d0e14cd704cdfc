"""Small complete projects to start from, and the one place that knows them. Their files are below `files/`."""
