"""What is unusual among runs and deliveries, within a budget of false alarms that people state."""
