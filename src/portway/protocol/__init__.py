"""The wire of both eras and both ends, without I/O: messages, headers, errors, sealed values."""
