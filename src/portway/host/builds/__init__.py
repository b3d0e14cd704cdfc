"""Sources and builds: from what an author hands over to the files of a release."""
