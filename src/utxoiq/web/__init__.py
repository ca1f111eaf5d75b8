"""What is served over HTTP. Reads only; never in a block's way."""
