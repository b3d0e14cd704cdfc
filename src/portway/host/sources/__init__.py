"""Where the files of a release come from: folders, templates and repositories, and what every source is held to."""
