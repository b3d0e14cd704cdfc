"""The git repositories of the apps, and what is pushed to them and cloned from them."""
