"""The operating system: signals, forks, file locks, processes, memory, private directories."""
