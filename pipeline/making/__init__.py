"""The corridor: from a job's planned images to pictures in the spool, by way of back ends."""
