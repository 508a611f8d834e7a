"""airflow-pipeops: one delivery graph for code, infrastructure and models in Apache Airflow."""

__version__ = "0.1.0"
