"""Questions to the client in the middle of a call: what can be asked, and how an answer finds its way back."""
