"""OAuth 2.1 resource server: verifies the access tokens of an identity provider, where clients log in."""
