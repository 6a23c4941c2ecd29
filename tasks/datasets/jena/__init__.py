"""Ten-minute weather readings of a roof station at Jena."""
