"""What happened: the journey of each request."""
