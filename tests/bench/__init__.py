"""`make bench`: how quickly jobs are sent, in how much memory, and how soon help is there. Measures; judges nothing."""
