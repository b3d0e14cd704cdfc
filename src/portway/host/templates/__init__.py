"""Small complete projects for `portway init` and `deploy template:NAME`; their files are below `files/`."""
