"""Bitcoin Core, live: RPC, REST and ZMQ. The only code that talks to a node."""
