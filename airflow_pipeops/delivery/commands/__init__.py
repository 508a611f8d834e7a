"""What ``airflow pipeops`` answers from the ledger."""
