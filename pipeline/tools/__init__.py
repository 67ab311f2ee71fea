"""Tools that know nothing of jobs and images: files, time, memory, threads, and what holds or wakes a loop."""
