"""The service: trained runs answer over HTTP."""
