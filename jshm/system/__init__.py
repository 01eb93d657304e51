"""What the operating system gives: signals, forks, processes, memory, private directories."""
