"""The places that keep images, each behind the Store port."""
