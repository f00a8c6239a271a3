"""What a person types: the commands of run.py, and all that is printed.

Nothing else may import it; it may import every package, and it alone knows the local cloud. Start reading in `main.py`,
then in `context.py`, which makes settings, cloud, and clients when a command first needs them.
"""
