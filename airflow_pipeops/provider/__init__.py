"""What Airflow loads: metadata, plugin, commands, example DAGs."""
