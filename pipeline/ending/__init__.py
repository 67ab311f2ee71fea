"""What follows the end of a job: its file and result are put away, who wants to know is told, old files are cleared."""
