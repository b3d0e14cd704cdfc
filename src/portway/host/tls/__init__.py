"""HTTPS: Caddy in front of the gate, with certificates by ACME or the operator's own."""
