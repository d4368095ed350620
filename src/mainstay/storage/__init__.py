"""What rooms ask to be kept, in one transactional SQL database. The only place with SQL."""
