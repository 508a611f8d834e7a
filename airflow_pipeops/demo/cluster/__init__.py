"""Programs that the chart runs beside Airflow, in a cluster of one's own: for trials and for ``helm test``."""
