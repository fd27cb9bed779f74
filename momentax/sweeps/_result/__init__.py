"""What a sweep found: its values ranked, selected, averaged, shown and kept in a file."""
