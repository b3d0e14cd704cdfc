"""Questions to the client during a call: what can be asked, and how the answers reach the handler."""
