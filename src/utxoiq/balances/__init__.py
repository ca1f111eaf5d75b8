"""What every script holds: a ledger on disk, brought forward and back block by block."""
