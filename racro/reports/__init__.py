"""What do people look at? HTML reports, their charts and templates."""
