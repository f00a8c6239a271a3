"""`make bench`: how quickly jobs are sent and worked off, in how much memory, beside their limits. Judges nothing."""
