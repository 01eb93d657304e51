"""What the members of a Unix group share: between real users."""
