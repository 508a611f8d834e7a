"""What PipeOps shows inside Airflow. Every route is behind Airflow's own access control."""
