"""Orders: what people ask of the pipeline while it works (cancel, retry, pause …), left as files and carried out once."""
