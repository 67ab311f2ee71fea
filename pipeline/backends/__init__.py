"""The services that make pictures, each behind the Backend port."""
