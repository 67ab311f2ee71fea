"""The windows: what owners may see over HTTP. Reads the catalogue, writes nothing, answers GET and HEAD."""
