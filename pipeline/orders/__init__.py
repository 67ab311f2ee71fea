"""Orders: what people ask of the house while it works (cancel, retry, pause …), left as files and carried out once."""
