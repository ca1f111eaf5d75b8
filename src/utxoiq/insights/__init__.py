"""What a signal means, in words; and the check that the words are true."""
