"""Builds: from a copied source to the files of a release."""
