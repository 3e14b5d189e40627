"""What `bench` serves to other devices over HTTP."""
