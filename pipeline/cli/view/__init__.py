"""What `pipeline status` shows: gathered in `overview`, then drawn, told line by line, or told to programs."""
