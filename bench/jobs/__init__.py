"""What is measured, each job in a process of its own."""
