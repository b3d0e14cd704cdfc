"""Apps that are linked to a branch of a repository elsewhere: what happens there is deployed."""
