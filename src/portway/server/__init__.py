"""What an author registers on a server, and how a request is answered from it."""
