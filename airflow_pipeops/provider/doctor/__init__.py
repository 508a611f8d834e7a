"""``airflow pipeops doctor``: is what this provider needs there, and what is to be done where it is not."""
