"""Compare everything in a store with the checksums that it was written with, and make again what can be made."""
