"""What the operating system gives: signals, forks, file locks, processes, memory, private directories."""
