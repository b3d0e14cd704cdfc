"""The `portway` command. One module per verb; `main` imports a verb only when it runs."""
